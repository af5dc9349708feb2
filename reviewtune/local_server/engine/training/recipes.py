"""The values of `auto`, per model family. They were tuned on this project's labelled reviews.

DEFAULT is for all other models, and for large ones of these families. It was tuned with a qwen2 of 1.5 billion weights.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviewtune.errors import ProviderError


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model family is trained."""

    learning_rate: float  # at learning_rate_multiplier 1
    frozen_layers: float  # share of the layers, from the lowest, that are not trained and computed only once
    n_epochs: int = 3
    batch_size: int = 16
    dropout: float = 0.0  # of the outputs of the trained sublayers
    rank: int | None = None  # of low-rank adapters of the upper layers; None: these layers' own weights are trained
    alpha: float = 32.0  # an adapter's product is multiplied by alpha / rank
    label_smoothing: float = 0.0  # share of the target probability that is spread over the vocabulary; see losses.py
    average: float = 0.0  # share of the steps, the last ones, over which the weights are averaged; see averaging.py


DEFAULT = Recipe(learning_rate=2e-4, frozen_layers=0.5, n_epochs=2, batch_size=8, dropout=0.1, rank=16)
RECIPES = {  # by config.json's model_type
    "gemma3_text": Recipe(learning_rate=1e-4, frozen_layers=0.5, n_epochs=2, batch_size=8, dropout=0.1),
    "qwen2": DEFAULT,
    "llama": Recipe(learning_rate=5e-4, frozen_layers=0.5, n_epochs=4, batch_size=8, dropout=0.1),
}
SMALL = 700_000_000  # weights; a larger network trains adapters, because each trained weight takes 16 bytes


def recipe_for(base: Path) -> Recipe:
    """The recipe for the model in a folder.

    Raises:
        ProviderError: the folder does not contain a model.
    """
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProviderError(f"{base} is not a model folder: its config.json cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise ProviderError(f"{base} is not a model folder: its config.json is not a JSON object")
    text = config.get("text_config")  # of a model that also reads images
    config = text if isinstance(text, dict) else config
    recipe = RECIPES.get(str(config.get("model_type")), DEFAULT)
    return recipe if recipe.rank or _weights(config) <= SMALL else DEFAULT


def _weights(config: dict[str, Any]) -> int:
    """About how many weights a network has: embeddings, and per layer the maps of attention and of a gated MLP."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    width, inner, layers, vocabulary = (int(config.get(name) or 0) for name in names)
    return vocabulary * width + layers * width * (4 * width + 3 * inner)
