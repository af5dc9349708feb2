"""Record where a run comes from: configuration, code, packages, data hashes, data sets as inputs."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from reviewtune.core.atomic_files import read_json
from reviewtune.core.config.arms import LIMITS
from reviewtune.core.config.config import Config, TrackingConfig
from reviewtune.core.project import ProjectPaths, SplitFiles, project_root
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.reviews import read_reviews, sha256
from reviewtune.errors import GitError
from reviewtune.tracking import git
from reviewtune.tracking.process import workspace
from reviewtune.tracking.queries import add_to_pass
from reviewtune.tracking.run_file import read_run_id
from reviewtune.tracking.runs import Run, RunKey, open_run

TRAINING_SECTIONS = ("data", "split", "provider", "prompt", "training")  # of the configuration: what a fine-tune needs
EVALUATION_SECTIONS = (*TRAINING_SECTIONS, "evaluation")
PATHS = ProjectPaths()
STAGES = ("prepare", "split", "format", "finetune", "evaluate")  # from the labelled reviews to a fine-tune's score
CODE_AND_DATA = ("data", "dvc.yaml", "reviewtune", "stages")
"""What a run leads to by its git revision. Its settings are stored with it, and an experiment may change them."""
DIRTY, FALSE = "git_dirty", "false"
"""Tag of a run: what of CODE_AND_DATA was not committed when it ran, or `false`; without git there is no tag."""
PACKAGES = ("numpy", "openai", "pandas", "scikit-learn", "torch", "transformers")  # that results depend on


def describe_run(
    run: Run,
    config: Config,
    *,
    sections: Sequence[str],
    inputs: Mapping[str, str],
    params: Path = PATHS.params,
    splits: SplitFiles = PATHS.splits,
) -> None:
    """Log the settings, the whole configuration as an artifact, the data hashes, and the splits as inputs.

    Args:
        run: the open run.
        config: the configuration that the run works with.
        sections: dotted paths of the sections to log as params, such as "training" or "arms.few_shot".
        inputs: for each split that the run uses, what for, such as {"train": "training"}.
        params: the file with the whole configuration.
        splits: the folder with the splits and their manifest.
    """
    manifest = read_json(splits.manifest)
    hashes = _hashes(manifest, inputs)
    with run.together():
        run.params(_settings_of(config, sections))
        run.text(params.read_text(encoding="utf-8"), "params.yaml")
        run.tags({"data": config.data.name, "data_sha256": manifest["data_sha256"], **circumstances(_here())})
        run.tags({DIRTY: dirty(_here())})
        run.tags({f"{name}_sha256": digest for name, digest in hashes.items()})
        for name, use in inputs.items():
            table = read_reviews(splits.part(name))
            run.dataset(table, name=f"{config.data.name}/{name}", digest=hashes[name], context=use)


@contextmanager
def evaluation_run(
    config: Config,
    arm: str,
    *,
    sections: Sequence[str],
    inputs: Mapping[str, str],
    tags: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Run]:
    """Open the run of an arm, with its origin logged; arguments as in `describe_run`.

    A run that was killed is continued, as `run_identity` says.
    """
    run_key = RunKey(f"evaluation:{run_identity(config, arm, dict(tags), sections=sections, inputs=inputs)}")
    with open_run(config.tracking, name=arm, kind="evaluation", tags=tags, run_key=run_key) as run:
        describe_run(run, config, sections=sections, inputs=inputs)
        yield run


def run_identity(
    config: Config, *parts: str | dict[str, object], sections: Sequence[str], inputs: Mapping[str, str]
) -> str:
    """A hash of what must be equal so that a run continues one that was killed: workspace, settings, splits, parts.

    Equal settings, because a run cannot hold two values of one; this workspace, because nobody can see whether a
    process on a colleague's machine is alive.
    """
    hashes = _hashes(read_json(PATHS.splits.manifest), inputs)
    identity = [*parts, workspace(), _settings_of(config, sections), hashes]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@cache
def circumstances(root: Path) -> Mapping[str, str]:
    """The rest of what a result depends on: the stages' code in `root`, the packages and the machine."""
    versions = {name: _installed(name) for name in PACKAGES}
    return {
        "code_sha256": code_sha256(root),
        "packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "machine": f"{platform.system()} {platform.machine()}, {platform.processor() or _processor()}",
    }


@cache
def dirty(root: Path) -> str | None:
    """The value of the tag DIRTY for runs of this process, which keeps running the code that it started with."""
    try:
        return ", ".join(git.uncommitted(root, *CODE_AND_DATA)) or FALSE
    except GitError:
        return None


@cache
def code_sha256(root: Path, stages: tuple[str, ...] = STAGES) -> str:
    """Hash of the source files of these stages, whose change makes DVC run them again.

    Cached, because the process keeps running the code that it started with.

    Args:
        root: absolute path of the folder with dvc.yaml.
        stages: names of stages in dvc.yaml.
    """
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    files = sorted({file for stage in stages for dep in pipeline[stage]["deps"] for file in _sources(root, dep)})
    return hashlib.sha256("".join(f"{file} {sha256(root / file)}\n" for file in files).encode()).hexdigest()


def _sources(root: Path, dep: str) -> list[str]:
    """Python files of a stage's dependency, relative to `root`: itself, or those of a package."""
    path = root / dep
    files = path.rglob("*.py") if dep.startswith("reviewtune/") and path.is_dir() else [path]
    return [file.relative_to(root).as_posix() for file in files if file.suffix == ".py"]


def log_pass(
    tracking: TrackingConfig,
    test_sha256: str,
    run_files: Sequence[Path],
    written: Sequence[Path],
    description: str,
    *,
    progress: Progress = SILENT,
) -> None:
    """Create a run for the comparison and add its id to the tag `passes` of every run of this pass of the pipeline.

    The tag holds a list, and the comparison is not their parent, because a run that DVC restored is in several passes.

    Args:
        tracking: the section `tracking`.
        test_sha256: hash of the test split.
        run_files: the run.json files of the pass.
        written: files of the comparison, which become artifacts.
        description: Markdown, shown on the run's page.
        progress: receives how to find the runs of the pass.
    """
    runs = [read_run_id(file) for file in run_files]
    tags = {"test_sha256": test_sha256, "mlflow.note.content": description}
    with open_run(tracking, name="comparison", kind="comparison", tags=tags) as run:
        for path in written:
            run.artifact(path)
        add_to_pass(tracking, [*runs, run.id], run.id[:12])
    progress.message(f"runs of this pass, in the MLflow UI (`make ui`): tags.passes LIKE '%{run.id[:12]}%'")


def _hashes(manifest: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, str]:
    """Hashes of these splits and of the test split."""
    return {name: manifest["splits"][name]["sha256"] for name in (*inputs, "test")}


def _settings_of(config: Config, sections: Sequence[str]) -> dict[str, Any]:
    return {section: _section(config, section) for section in sections}


def _section(config: Config, path: str) -> dict[str, Any]:
    """A section as plain values; without what only the artifact params.yaml has: the list of labels, and limits.

    Limits change no result, and a run that continues with a higher one cannot change its params.
    """
    section: Any = config
    for key in path.split("."):
        section = section[key] if isinstance(section, dict) else getattr(section, key)
    return {key: value for key, value in section.model_dump(mode="json").items() if key not in ("labels", *LIMITS)}


def _here() -> Path:
    """The folder whose code runs, which under `dvc exp run --temp` is not the project's own."""
    return Path.cwd() if Path("dvc.yaml").exists() else project_root()


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Linux leaves platform.processor() empty."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")
