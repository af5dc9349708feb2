"""Fine-tune a small chat model to sort customer reviews, and prove on held-out data that it beats a prompt."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reviewtune.analyzer.review_analyzer import ReviewAnalyzer

__all__ = ["ReviewAnalyzer"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of whatever is asked for
    """Import on first use, so that `import reviewtune.core.config.config` does not load an openai client."""
    if name == "ReviewAnalyzer":
        from reviewtune.analyzer.review_analyzer import ReviewAnalyzer

        return ReviewAnalyzer
    raise AttributeError(f"module 'reviewtune' has no attribute {name!r}")
