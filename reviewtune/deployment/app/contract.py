"""What the service needs of an analyzer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass
class Classification:
    label: str | None
    confidence: float | None
    sure: bool
    model: str | None
    version: str | None
    why: str | None


class Analyzer(Protocol):
    """Classifies reviews, and keeps its connections open between calls."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def model(self) -> str: ...

    @property
    def version(self) -> str | None: ...

    def ready(self) -> bool: ...

    def close(self) -> None: ...

    async def aclassify_reviews(self, reviews: Sequence[str]) -> list[Classification]: ...
