"""Which models are in memory: two sets of weights, and with each of them many adapters, which cost little."""

import gc
import logging
from collections.abc import Sequence
from pathlib import Path

from reviewtune.local_server.chat.served_model import ServedModel

KEPT_WEIGHTS = 2  # in memory at a time
KEPT_MODELS = 16  # with the same weights, unless more have work: a base model and its adapters
TURN = 20  # steps before weights are freed for others that wait: loading takes about as long

log = logging.getLogger(__name__)


class ModelMemory:
    """Loads models, and unloads others for them. Adapters of one base model use the same weights.

    Args:
        cache: the folder of the base models.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._loaded: dict[str, list[ServedModel]] = {}  # by the name of their weights
        self._since: dict[str, int] = {}  # the number of the step before which these weights were loaded

    def may_load(self, model: ServedModel, waiting: Sequence[ServedModel], step: int) -> bool:
        """Whether the model may take the next step.

        Its weights are in memory, or there is room for them, or the others had it long enough.

        Args:
            model: the model.
            waiting: all models that have work.
            step: the number of the next step.
        """
        busy = {other.source.weights for other in waiting if other.loaded}
        if model.source.weights in self._loaded or len(busy) < KEPT_WEIGHTS:
            return True
        return step - max(self._since[weights] for weights in busy) >= TURN

    def load(self, model: ServedModel, step: int) -> None:
        """Load a model, unless it is loaded. The arguments are those of `may_load`."""
        if model.loaded:
            return
        weights = model.source.weights
        if weights in self._loaded:
            self._drop_idle(self._loaded[weights])
            for other in self._loaded[weights]:
                other.forget_prefixes()  # of long prompts they take far more memory than the adapters
        else:
            self._drop_weights()
        log.info("loading model %s", model.source.name)
        model.load(self._cache)
        self._since.setdefault(weights, step)
        self._loaded.setdefault(weights, []).append(model)

    def free_gpu(self) -> None:
        """Unload the models that have no work, if they are on a GPU."""
        if not self._loaded or not _on_gpu():
            return
        for weights, models in list(self._loaded.items()):
            if not any(model.busy for model in models):
                log.info("unloading %s for a training", weights)
                del self._since[weights]
                _unload(self._loaded.pop(weights))

    def _worth(self, weights: str) -> tuple[bool, int]:
        """Weights in use are freed last, and of those the ones that had their turn first."""
        models = self._loaded[weights]
        busy = any(model.busy for model in models)
        return busy, self._since[weights] if busy else max(model.last_step for model in models)

    def _drop_weights(self) -> None:
        """Make room for other weights."""
        while len(self._loaded) >= KEPT_WEIGHTS:
            weights = min(self._loaded, key=self._worth)
            del self._since[weights]
            _unload(self._loaded.pop(weights))

    @staticmethod
    def _drop_idle(models: list[ServedModel]) -> None:
        """Make room for one more model with the same weights, if some of them have no work."""
        idle = sorted((model for model in models if not model.busy), key=lambda model: model.last_step)
        if dropped := idle[: max(0, len(models) - KEPT_MODELS + 1)]:
            models[:] = [model for model in models if model not in dropped]
            _unload(dropped)


def _unload(models: Sequence[ServedModel]) -> None:
    for model in models:
        model.unload()
    gc.collect()  # their parts refer to each other, and automatic collections are rare: see local_server.__main__
    from reviewtune.local_server.engine.model_loading import give_back_memory  # torch is imported: models were loaded

    give_back_memory()


def _on_gpu() -> bool:
    from reviewtune.local_server.engine.model_loading import device

    return device().type == "cuda"
