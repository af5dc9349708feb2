"""Run a stored run again, only from what it names, and report whether the result is the same.

The pipeline itself runs: `dvc repro` of the run's stage in a temporary worktree of its revision. The data are found by
their hash (run_data.py), the configuration is the artifact params.yaml. The local provider trains again in an
empty account; a paid provider's job is found again, and only the answers are requested again.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import psutil

from reviewtune.commands.run_data import place_data
from reviewtune.core.atomic_files import read_json
from reviewtune.core.config.arms import CHECKPOINT, FINETUNED
from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.user_dirs import account_folder, cache_folder, running_server
from reviewtune.errors import ConfigError, DataError
from reviewtune.finetuning.job_notes import NOTES
from reviewtune.providers.answer_cache import NAME
from reviewtune.tracking import git
from reviewtune.tracking.provenance import circumstances
from reviewtune.tracking.queries import artifact_of, stored_run
from reviewtune.tracking.runs import RunRecord

Outcome = Literal["identical", "within tolerance", "different"]

NO_HOOKS = ("-c", "core.hooksPath=/dev/null")  # a hook after checkout could change the workspace, or need a network
PATHS = ProjectPaths()
MODEL_FILES = {path.name: path for path in (PATHS.model_record, PATHS.training_curve)}
ROUNDING = 1e-9  # 0.81 - 0.80 is a little more than 0.01
ARM_FILES = ("metrics.json", "predictions.csv")
# Fields of finetuned.json that depend on the provider's address, not on the model, or that earlier releases lack.
VOLATILE = ("order_key", "run_key", "version", "data", "data_sha256", "labels")


@dataclass(frozen=True)
class Reproduction:
    """The outcome of running a run again."""

    run_id: str
    outcome: Outcome
    files: Mapping[str, bool]  # by the name of a result file, whether it is equal
    accuracy: tuple[float, float] | None  # then, now
    changed_predictions: tuple[int, int] | None  # their number, and the number of all
    reasons: tuple[str, ...]  # the differences in data, code, packages or model


def reproduce(
    run: RunRecord, tracking: TrackingConfig, *, tolerance: float, retrain: bool | None = None
) -> Reproduction:
    """Run a stored run again and compare the results; the outcome becomes a tag of the run.

    Args:
        run: the stored run.
        tracking: where it is stored.
        tolerance: the largest change of the accuracy that counts as "within tolerance", such as 0.01.
        retrain: train again instead of finding the job; None: only at the local provider, where that costs nothing.

    Raises:
        ConfigError: `retrain` at a provider that would find the job again.
        DataError: the run names no revision, the commit is missing, or its data cannot be found.
    """
    target, files = _target(run)
    params = artifact_of(tracking, run.id, "params.yaml")
    config = load_params(params)
    in_own_account = config.provider.kind == "local" and config.provider.base_url is None
    if retrain and not in_own_account:
        raise ConfigError(
            f"--retrain: the run's provider is {config.provider.kind}, where the same order finds its job again and "
            "nothing would be trained; leave it out to ask the model again, or change training.seed to train another"
        )
    train_again = in_own_account if retrain is None else retrain
    with _worktree(run) as tree:
        data = _place_in(tree, config.data.path)
        _write_params(params, tree, data)
        cache = _share_cache(tree)
        if not data.exists():
            _dvc(tree, "pull", str(data))  # from DVC's cache or remote, if the revision has it there
        where = place_data(run, config, tracking, data, cache=cache)
        print(f"data: {config.data.path} from {where}", flush=True)
        if not train_again:
            _share_notes(tree)
        with _home(train_again) as home:
            _repro(tree, target, home)
        reproduction = _compare(run, tracking, tree, files, tolerance)
    stored_run(tracking, run.id).tags({"reproduced": reproduction.outcome})
    return reproduction


def to_text(reproduction: Reproduction) -> str:
    """The report in a few lines."""
    lines = [f"run {reproduction.run_id}: {reproduction.outcome}"]
    lines += [f"  {name}: {'equal to the byte' if equal else 'differs'}" for name, equal in reproduction.files.items()]
    if reproduction.accuracy and reproduction.changed_predictions:
        (then, now), (changed, n) = reproduction.accuracy, reproduction.changed_predictions
        lines.append(f"  accuracy {then:.4f} then, {now:.4f} now; {changed} of {counted(n, 'prediction')} changed")
    lines += [f"  why: {reason}" for reason in reproduction.reasons]
    if reproduction.outcome != "identical" and not reproduction.reasons:
        lines.append("  why: nothing that the run names differs; the provider does not give the same answers twice")
    return "\n".join(lines)


def _target(run: RunRecord) -> tuple[str, dict[str, Path]]:
    """The stage to run and, for each artifact to compare, where that stage writes it, relative to the project."""
    kind, arm = run.tags.get("kind"), run.tags.get("arm", FINETUNED)
    if "git_revision" not in run.tags or kind not in ("finetune", "evaluation", "job"):
        fault = f"is a {kind}" if "git_revision" in run.tags else "names no git revision"
        raise DataError(f"run {run.id} {fault}: choose a fine-tune, an evaluation or a job of a sweep")
    arm_files = {name: PATHS.arm(arm) / name for name in ARM_FILES}
    only_validated = "validation_accuracy" in run.metrics and "accuracy" not in run.metrics  # did not win its sweep
    if kind == "finetune" or only_validated:
        return "finetune", MODEL_FILES
    if arm == FINETUNED:
        return "evaluate", {**(MODEL_FILES if kind == "job" else {}), **arm_files}
    if run.tags.get("arm_kind") == "checkpoint":
        return f"checkpoint@{arm.removeprefix(CHECKPOINT)}", arm_files
    return f"baseline@{arm}", arm_files


@contextmanager
def _worktree(run: RunRecord) -> Iterator[Path]:
    """The project at the run's revision, checked out into a temporary folder; the workspace stays as it is."""
    revision, root = run.tags["git_revision"], project_root()
    prefix = git.ask(root, "rev-parse", "--show-prefix").strip()  # the project may be a part of a larger repository
    with tempfile.TemporaryDirectory(prefix="reviewtune-") as folder:
        worktree = Path(folder) / "tree"
        add = ("worktree", "add", "--detach", "--quiet", str(worktree), revision)
        if git.attempt(root, *NO_HOOKS, *add).returncode:
            hint = "fetch it (`git fetch --unshallow`, or from where the run was made)"
            raise DataError(f"revision {revision[:12]} of run {run.id} is not in this repository; {hint}")
        try:
            if not (worktree / prefix / "dvc.yaml").exists():
                raise DataError(f"revision {revision[:12]} of run {run.id} has no {prefix}dvc.yaml")
            yield worktree / prefix
        finally:
            git.attempt(root, "worktree", "remove", "--force", str(worktree))


def _place_in(tree: Path, data: Path) -> Path:
    """Where the data belong; data from outside of the project are never written back to their place."""
    inside = not data.is_absolute() and ".." not in data.parts
    return tree / (data if inside else Path("data") / "raw" / data.name)


def _write_params(params: Path, tree: Path, data: Path) -> None:
    """Write the run's exact settings, except that its data and new runs are in the worktree and removed with it."""
    from omegaconf import OmegaConf

    settings = OmegaConf.load(params)
    settings.tracking.uri = None
    settings.data.path = data.relative_to(tree).as_posix()
    (tree / "params.yaml").write_text(OmegaConf.to_yaml(settings), encoding="utf-8")


def _share_cache(tree: Path) -> Path:
    """Let DVC in the worktree use the cache and the remotes of the workspace; returns the cache."""
    root, settings = project_root(), tree / ".dvc" / "config.local"
    if (root / ".dvc" / "config.local").exists():
        shutil.copy(root / ".dvc" / "config.local", settings)
    cache = Path(_dvc(root, "cache", "dir").strip() or root / ".dvc" / "cache")
    _dvc(tree, "cache", "dir", "--local", str(cache))
    return cache


def _repro(tree: Path, target: str, home: Path) -> None:
    """Run the stage and all before it, even if nothing changed; results are written to this worktree only."""
    print(f"running `dvc repro {target}` at the run's revision", flush=True)
    extra = {"DVC_EXP_NAME": "reproduce", "REVIEWTUNE_HOME": str(home)}
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", "--no-commit", target]
    if subprocess.run(command, cwd=tree, env={**_environment(tree), **extra}).returncode:
        raise DataError(f"`dvc repro {target}` failed at the run's revision; its message is above")


def _dvc(folder: Path, *words: str) -> str:
    """Run DVC in the folder; returns what it printed."""
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=folder, env=_environment(folder), text=True, capture_output=True).stdout


def _environment(tree: Path) -> dict[str, str]:
    """The environment of a command in the worktree: its code, this Python, without variables of a calling pipeline."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "REVIEWTUNE_SWEEP"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**kept, "PYTHONPATH": str(tree), "PATH": path, "DVC_NO_ANALYTICS": "1"}


def _share_notes(tree: Path) -> None:
    """Let the worktree know the project's jobs: a provider without metadata finds them by these notes alone."""
    notes = project_root() / NOTES
    notes.mkdir(parents=True, exist_ok=True)
    (tree / NOTES).parent.mkdir(parents=True, exist_ok=True)
    (tree / NOTES).symlink_to(notes.resolve())


@contextmanager
def _home(empty_account: bool) -> Iterator[Path]:
    """A temporary REVIEWTUNE_HOME that shares cached weights but no cached answers and, if `empty_account`, no jobs."""
    weights = cache_folder()
    with tempfile.TemporaryDirectory(prefix="reviewtune-") as folder:
        home = Path(folder)
        (home / "cache").mkdir()
        for entry in weights.iterdir() if weights.exists() else ():
            if not entry.name.startswith(NAME):
                (home / "cache" / entry.name).symlink_to(entry.resolve())
        if not empty_account:
            (home / "data").symlink_to(account_folder().resolve())
        try:
            yield home
        finally:
            if empty_account:
                _end_server(home)


def _end_server(home: Path) -> None:
    """End the server of the temporary account, and no process that got its id since."""
    server = running_server(home / "data")
    if server is None:
        return
    with suppress(psutil.Error):
        process = psutil.Process(server.pid)
        process.terminate()
        process.wait(30)


def _compare(
    run: RunRecord, tracking: TrackingConfig, tree: Path, files: Mapping[str, Path], tolerance: float
) -> Reproduction:
    pairs = {name: (artifact_of(tracking, run.id, name), tree / path) for name, path in files.items()}
    equal = {name: _content(then) == _content(now) for name, (then, now) in pairs.items()}
    accuracy, changed = _scores(pairs)
    moved = abs(accuracy[0] - accuracy[1]) if accuracy else None
    outcome: Outcome = "different"
    if all(equal.values()):
        outcome = "identical"
    elif moved is not None and moved <= tolerance + ROUNDING:
        outcome = "within tolerance"
    reasons = () if outcome == "identical" else tuple(_reasons(run, tree))
    return Reproduction(run.id, outcome, equal, accuracy, changed, reasons)


def _content(path: Path) -> object:
    if path.name != PATHS.model_record.name:
        return path.read_bytes()
    return {name: value for name, value in read_json(path).items() if name not in VOLATILE}


def _scores(
    pairs: Mapping[str, tuple[Path, Path]],
) -> tuple[tuple[float, float] | None, tuple[int, int] | None]:
    if "predictions.csv" not in pairs:
        return None, None
    then, now = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in pairs["predictions.csv"])
    both = then.merge(now, on="review_id", how="outer", suffixes=("_then", "_now"))
    changed = int((both["predicted_then"] != both["predicted_now"]).sum())
    first, second = (float((table["label"] == table["predicted"]).mean()) for table in (then, now))
    return (first, second), (changed, len(both))


def _reasons(run: RunRecord, tree: Path) -> list[str]:
    """The differences between what the run names and what there is now, from the data to the model."""
    now, paths = dict[str, Any](circumstances(tree)), ProjectPaths(tree)
    with suppress(FileNotFoundError):
        manifest = read_json(paths.splits.manifest)
        now["data_sha256"] = manifest["data_sha256"]
        now |= {f"{name}_sha256": split["sha256"] for name, split in manifest["splits"].items()}
    with suppress(FileNotFoundError):
        record = read_json(paths.model_record)
        now |= {name: record[name] for name in ("training_sha256", "prompt_fingerprint", "model")}
    then = {name: run.tags.get(name) for name in now}
    notes = {"code_sha256": " (the run was made with changes that were not committed, or before this tag existed)"}
    return [
        f"{name}: {then[name] or 'not noted'} then, {value} now{notes.get(name, '')}"
        for name, value in now.items()
        if then[name] != value and not (name == "prompt_fingerprint" and run.tags.get("arm_kind") == "prompt")
    ]
