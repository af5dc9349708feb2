"""What a training writes to disk: a complete model at the end of each epoch, and the state to resume from."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from reviewtune.local_server.engine.adapter_files import save_adapter
from reviewtune.local_server.engine.adapters import merged
from reviewtune.local_server.engine.base_models.model_folder import STAMP, is_legal, link_or_copy, make_readable
from reviewtune.local_server.engine.model_loading import LoadedModel, stop_at
from reviewtune.local_server.engine.training.averaging import COUNT, SUM, WeightAverage
from reviewtune.local_server.engine.training.fp32_masters import Fp32Masters
from reviewtune.local_server.engine.training.frozen_layers import PACK
from reviewtune.local_server.engine.types import RESUME, Hyperparameters, TrainingSpec

KEPT = 3  # checkpoints that are kept
MOMENTS = ("exp_avg", "exp_avg_sq")


class Course(NamedTuple):
    """What changes during a training."""

    masters: Fp32Masters
    optimizer: torch.optim.Optimizer
    average: WeightAverage


class Checkpoints:
    """The output folder of one training."""

    def __init__(
        self,
        spec: TrainingSpec,
        hyper: Hyperparameters,
        model: LoadedModel,
        course: Course,
        pack: int = PACK,
    ) -> None:
        self._spec, self._model, self._course = spec, model, course
        self._network = model.network
        stop_at(self._network.generation_config, model.chat.end_of_turn)
        self._identity, self._epochs, self._pack = _identity(spec, hyper), hyper.n_epochs, pack
        self._state = spec.output / RESUME
        self._folder = spec.output / "checkpoints"
        self._folder.mkdir(parents=True, exist_ok=True)

    def save(self, epoch: int, step: int) -> Path:
        """Save the model as checkpoints/step-N and the exact state to resume from; remove old checkpoints."""
        folder = self._folder / f"step-{step}"
        self._save_model(folder)
        self._save_state(epoch)
        steps = sorted(int(path.name.removeprefix("step-")) for path in self._folder.glob("step-*"))
        for old in steps[:-KEPT]:
            shutil.rmtree(self._folder / f"step-{old}")
        return folder

    def finish(self, last_step: int) -> None:
        """Make the last checkpoint the finished model, by hard links if the file system supports them.

        The state to resume from (`RESUME`) stays until the result is recorded, so a training that is cut off before
        that is not repeated.
        """
        for file in (self._folder / f"step-{last_step}").iterdir():
            target = self._spec.output / file.name
            target.unlink(missing_ok=True)
            link_or_copy(file, target)

    def resume(self) -> int:
        """Load the state of an earlier run of the same training that was cut off.

        If all epochs are finished no weights are loaded, because the model is saved already.

        Returns:
            The number of finished epochs, 0 if there is no such state.
        """
        if not _is_whole(self._state):
            return 0
        with safe_open(self._state, "pt") as state:
            metadata = state.metadata()
            weights = self._weights_to_resume(int(metadata["epoch"]))
            if metadata["identity"] != self._identity or not _has_all(state, weights):
                self._remove_all()
                return 0
            for name, weight in weights.items():
                with torch.no_grad():
                    weight.copy_(state.get_tensor(name))
                self._course.optimizer.state[weight] = {
                    "step": state.get_tensor("step").to(weight.device, copy=True),  # where the fused AdamW wants it
                    **{moment: state.get_tensor(f"{name}.{moment}").to(weight.device) for moment in MOMENTS},
                }
            if weights:
                names = [name for name in state.keys() if name == COUNT or name.endswith(SUM)]  # noqa: SIM118
                self._course.average.restore({name: state.get_tensor(name) for name in names})
        self._course.masters.give_weights()
        return int(metadata["epoch"])

    def _remove_all(self) -> None:
        """Remove the checkpoints of a training with other settings, so that they do not mix with those to come."""
        for folder in self._folder.glob("step-*"):
            shutil.rmtree(folder)

    def _weights_to_resume(self, epoch: int) -> Mapping[str, nn.Parameter]:
        return self._course.masters.named if epoch < self._epochs else {}

    def _save_model(self, folder: Path) -> None:
        work = folder.with_name(f".{folder.name}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            self._write_model(work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)  # on a full disk, what is half written takes space too
            raise
        shutil.rmtree(folder, ignore_errors=True)
        work.replace(folder)

    def _write_model(self, work: Path) -> None:
        if self._model.adapter and not self._spec.whole:
            self._copy_from_base(work, lambda file: is_legal(file.name))
            save_adapter(self._model.adapter, self._network, self._spec.base, work)
        else:
            self._copy_from_base(work, lambda file: file.name != STAMP and ".safetensors" not in file.name)
            self._network.save_pretrained(work, state_dict=self._weights())
        make_readable(work)

    def _copy_from_base(self, work: Path, wanted: Callable[[Path], bool]) -> None:
        """Copy tokenizer, template, license: what does not change."""
        for file in self._spec.base.iterdir():
            if file.is_file() and wanted(file):
                shutil.copy2(file, work)

    def _weights(self) -> dict[str, Tensor]:
        if self._model.adapter:
            return dict(merged(self._network, self._model.adapter))
        return {name: weight.detach().to(torch.bfloat16) for name, weight in self._network.named_parameters()}

    def _save_state(self, epoch: int) -> None:
        tensors: dict[str, Tensor] = {}
        for name, weight in self._weights_to_resume(epoch).items():
            state = self._course.optimizer.state[weight]
            tensors |= {name: weight.detach(), **{f"{name}.{moment}": state[moment] for moment in MOMENTS}}
            tensors["step"] = state["step"]
        if tensors:
            tensors |= self._course.average.state()
        work = self._state.with_suffix(".partial")
        metadata = {"identity": self._identity, "epoch": str(epoch), "pack": str(self._pack)}
        try:
            save_file(tensors, work, metadata=metadata)
            work.replace(self._state)
        except BaseException:
            work.unlink(missing_ok=True)  # on a full disk, what is half written takes space too
            raise


def _is_whole(state: Path) -> bool:
    """Whether the state exists and is complete; otherwise the training starts again."""
    try:
        with safe_open(state, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _has_all(state: Any, weights: Mapping[str, nn.Parameter]) -> bool:  # noqa: ANN401 - of safetensors, without a type
    """Whether the state is one of these weights; after an upgrade, the recipe may train others."""
    names = set(state.keys())
    return all(
        name in names and state.get_slice(name).get_shape() == [*weight.shape] for name, weight in weights.items()
    )


def pack_to_resume(spec: TrainingSpec, hyper: Hyperparameters) -> int | None:
    """The tokens that were computed at a time before a training was cut off; None if there is nothing to resume.

    Another number would give sums in another order, and so other weights.
    """
    state = spec.output / RESUME
    if not _is_whole(state):
        return None
    with safe_open(state, "pt") as file:
        metadata = file.metadata()
    return int(metadata.get("pack", PACK)) if metadata["identity"] == _identity(spec, hyper) else None


def _identity(spec: TrainingSpec, hyper: Hyperparameters) -> str:
    """A hash that is equal for trainings that end with equal weights."""
    digest = hashlib.sha256(repr((str(spec.base), str(spec.adapter), spec.whole, spec.seed, astuple(hyper))).encode())
    digest.update(spec.training_file.read_bytes())
    return digest.hexdigest()
