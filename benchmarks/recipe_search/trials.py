"""A recipe as words: `rank=16 learning_rate=1e-3 average=0.25` changes these values of the shipped recipe."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from reviewtune.local_server.engine.training.recipes import RECIPES, Recipe

SHIPPED = "shipped"
# The model_type in config.json of the base models that are known by name.
FAMILIES = {"gemma-3-270m": "gemma3_text", "smollm2-135m-instruct": "llama", "qwen2.5-coder-1.5b-instruct": "qwen2"}
PROMPTS = ("short", "detailed")
ALIASES = {"smoothing": "label_smoothing"}


@dataclass(frozen=True)
class Trial:
    """What is tried: a recipe, and the prompt that the model is trained with."""

    recipe: Recipe
    prompt: str = "short"  # a file of conf/prompt

    @property
    def values(self) -> dict[str, Any]:
        """All values by their keys."""
        return {**asdict(self.recipe), "prompt": self.prompt}

    def name(self, shipped: Recipe) -> str:
        """The words that differ from the shipped recipe."""
        usual = Trial(shipped).values
        changed = [f"{key}={_word(value)}" for key, value in self.values.items() if value != usual[key]]
        return " ".join(changed) or SHIPPED


def shipped_for(base: str) -> Recipe:
    """The recipe that ships for one of FAMILIES, without its files."""
    return RECIPES[FAMILIES[base]]


def parse(words: str, shipped: Recipe) -> Trial:
    """Read a recipe.

    Args:
        words: pairs key=value that change the shipped recipe, or `shipped`.
        shipped: the base model's recipe.

    Raises:
        ValueError: a word is not a pair of a known key and an allowed value.
    """
    changes = dict(_pair(word) for word in words.split() if word != SHIPPED)
    prompt = changes.pop("prompt", Trial.prompt)
    return Trial(replace(shipped, **changes), prompt)


def of_values(values: dict[str, Any]) -> Trial:
    """The inverse of `Trial.values`."""
    names = {field.name for field in fields(Recipe)}
    return Trial(Recipe(**{key: values[key] for key in names}), values["prompt"])


def _pair(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    key = ALIASES.get(key, key)
    if not equals or key not in _READERS:
        raise ValueError(f"{word!r} is not key=value with one of the keys {', '.join(_READERS)}")
    try:
        return key, _READERS[key](value)
    except ValueError as error:
        allowed = str(error) if isinstance(error, _NotAllowedError) else "not a number of the right kind"
        raise ValueError(f"{word!r}: {allowed}") from None


class _NotAllowedError(ValueError):
    """A value outside what is allowed; the message says what is."""


def _share(value: str) -> float:
    number = float(value)
    if not 0 <= number < 1:
        raise _NotAllowedError("must be at least 0 and below 1")
    return number


def _above_zero(value: str) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise _NotAllowedError("must be above 0")
    return number


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise _NotAllowedError("must be a whole number of at least 1")
    return int(value)


def _rank(value: str) -> int | None:
    return None if value == "none" else _count(value)


def _prompt(value: str) -> str:
    if value not in PROMPTS:
        raise _NotAllowedError(f"must be one of {', '.join(PROMPTS)}")
    return value


_READERS: dict[str, Callable[[str], Any]] = {
    "learning_rate": _above_zero,
    "frozen_layers": _share,
    "n_epochs": _count,
    "batch_size": _count,
    "dropout": _share,
    "rank": _rank,
    "alpha": _above_zero,
    "label_smoothing": _share,
    "average": _share,
    "prompt": _prompt,
}


def _word(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
