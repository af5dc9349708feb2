"""The project on disk: its root folder and the files that the pipeline reads and writes.

These classes are the only place that spells the names of the pipeline's files; dvc.yaml declares the same ones.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ChatFiles:
    """The two chat JSONL files of a fine-tuning job, in one folder."""

    folder: Path

    @property
    def training(self) -> Path:
        return self.folder / "training_data.jsonl"

    @property
    def validation(self) -> Path:
        return self.folder / "validation_data.jsonl"

    @property
    def both(self) -> tuple[Path, Path]:
        """Training, then validation."""
        return self.training, self.validation


@dataclass(frozen=True)
class SplitFiles:
    """The three parts of the labelled reviews, in one folder, with the manifest that freezes them by hash."""

    folder: Path

    def part(self, name: str) -> Path:
        """The table of one part: train, valid or test."""
        return self.folder / f"{name}.csv"

    @property
    def train(self) -> Path:
        return self.part("train")

    @property
    def valid(self) -> Path:
        return self.part("valid")

    @property
    def test(self) -> Path:
        return self.part("test")

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"


@dataclass(frozen=True)
class ProjectPaths:
    """Where the files of the pipeline are, as dvc.yaml declares them.

    Args:
        root: the project's folder; the current folder by default, as DVC runs every stage there.
    """

    root: Path = Path()

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def labeled(self) -> Path:
        return self.root / "data" / "labeled.csv"

    @property
    def splits(self) -> SplitFiles:
        return SplitFiles(self.root / "data" / "splits")

    @property
    def frozen_splits(self) -> Path:
        """The sides that reviews keep; in git, because nothing can compute it again."""
        return self.root / "data" / "frozen_splits.csv"

    @property
    def chat(self) -> ChatFiles:
        return ChatFiles(self.root / "data" / "chat")

    @property
    def injections(self) -> Path:
        return self.root / "data" / "injections"

    @property
    def teacher_answers(self) -> Path:
        """The answers of old models to reviews without a label; data, as nothing can compute them again."""
        return self.root / "data" / "teacher"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def model_record(self) -> Path:
        return self.models / "finetuned.json"

    @property
    def model_run(self) -> Path:
        return self.models / "run.json"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def data_summary(self) -> Path:
        return self.reports / "data.json"

    @property
    def data_report(self) -> Path:
        return self.reports / "data.md"

    @property
    def cost_estimate(self) -> Path:
        return self.reports / "cost_estimate.json"

    @property
    def training_curve(self) -> Path:
        return self.reports / "training_curve.csv"

    def arm(self, name: str) -> Path:
        """The folder with the results of one arm."""
        return self.reports / "arms" / name

    @property
    def work(self) -> Path:
        """Notes and intermediate files that git and DVC ignore."""
        return self.root / ".work"


def project_root() -> Path:
    """The folder of the real project: under `dvc exp run --temp` that is not the current one."""
    if root := os.environ.get("DVC_ROOT"):
        return Path(root)
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").exists()), here)
