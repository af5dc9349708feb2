"""Register a candidate: the folder of its served model as a version that MLflow's tools can load, with its origin."""

import importlib.metadata
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

import reviewtune
from reviewtune.analyzer.served_model import ServedModel
from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.formatting import with_interval
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.deployment import pyfunc_model
from reviewtune.deployment.candidate import Candidate
from reviewtune.deployment.gates_file import Gate
from reviewtune.deployment.served_folder import identity, write_folder
from reviewtune.tracking.registry import Package, RegisteredVersion, register, set_tags, versions

IDENTITY, WEIGHTS, HAS_REFERENCE = "identity", "with_weights", "has_reference"  # tags of a version

REQUIREMENTS = (
    "mlflow", "openai", "httpx2", "aiohttp", "anyio", "pandas", "scikit-learn", "scipy", "pydantic", "omegaconf",
    "PyYAML", "matplotlib", "rich", "sqlalchemy", "platformdirs", "filelock", "psutil", "bpe-openai", "openpyxl",
)  # fmt: skip
"""Packages that a registered model needs, at the versions that are installed when it is registered."""
LOCAL = (
    "fastapi", "uvicorn", "python-multipart", "typer", "torch", "transformers", "peft", "gguf", "safetensors",
    "llguidance",
)  # fmt: skip
"""What a model of the local provider needs in addition."""
MASKING = ("phonenumbers",)
"""What a model that was trained with data.mask_personal needs in addition."""
EXAMPLES = ("The parcel came two weeks late.", "Great quality, I would buy it again.")


def is_same(version: RegisteredVersion, candidate: Candidate, *, with_weights: bool) -> bool:
    """Whether a version is this candidate, has a reference for `monitor`, and the weights if they are wanted."""
    if version.tags.get(HAS_REFERENCE) != "true":
        return False  # promoted by an earlier release
    has_weights = version.tags.get(WEIGHTS) == "true"
    return version.is_ready and is_same_model(version, candidate) and (has_weights or not with_weights)


def is_same_model(version: RegisteredVersion, candidate: Candidate) -> bool:
    """Whether a version answers as this candidate does."""
    asked, training = candidate.asked, candidate.training_sha256
    return version.tags.get(IDENTITY) in [identity(asked, training, ordered=ordered) for ordered in (True, False)]


def find_or_register(
    settings: TrackingConfig,
    candidate: Candidate,
    served: ServedModel,
    gates: Sequence[Gate],
    *,
    with_weights: bool,
    progress: Progress = SILENT,
) -> RegisteredVersion:
    """The candidate's version: one that an interrupted promotion left, or a new one.

    Raises:
        ProviderError: the weights are wanted, but they are not on this machine.
        TrackingError: the registry does not answer.
    """
    noted = _tags(candidate, served, gates)  # of the gates of now, also if the version is one from before
    known = versions(settings, served.name)
    same = next((one for one in known if is_same(one, candidate, with_weights=with_weights)), None)
    if same is not None and not same.aliases and same.run_id == candidate.run_id:
        set_tags(settings, same, {key: value for key, value in noted.items() if value is not None})
        return same
    with tempfile.TemporaryDirectory(prefix="reviewtune-") as scratch:
        folder = Path(scratch)
        write_folder(served, candidate, folder, with_weights=with_weights, progress=progress)
        return register(
            settings,
            served.name,
            folder,
            package=package_of(served),
            run_id=candidate.run.id if candidate.run else None,
            tags={**noted, WEIGHTS: str(with_weights).lower(), HAS_REFERENCE: "true"},
            description=_description(candidate, served),
        )


def package_of(served: ServedModel) -> Package:
    """How MLflow's tools load it, with reviewtune's own code, which is in no package index."""
    return Package(
        loader=pyfunc_model.__name__,
        code=Path(reviewtune.__file__).parent,
        requirements=_requirements(served),
        inputs=pyfunc_model.INPUTS,
        outputs=pyfunc_model.OUTPUTS,
        example=pd.DataFrame({pyfunc_model.TEXT: list(EXAMPLES)}),
    )


def _requirements(served: ServedModel) -> list[str]:
    provider = _provider(served)
    is_local = served.kind != "linear" and provider.kind == "local" and provider.base_url is None
    masking = MASKING if served.config.data.mask_personal else ()
    names = [*REQUIREMENTS, *masking, *(LOCAL if is_local else ())]
    return [f"{name}=={version}" for name in names if (version := _installed(name))]


def _provider(served: ServedModel) -> ProviderConfig:
    """Who serves it: an arm may have a separate provider."""
    return getattr(served.config.arms.get(served.arm), "provider", served.config.provider)


def _installed(name: str) -> str:
    """The version of an installed package, without a build's name such as +cpu; empty if it is not installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name).partition("+")[0]
    return ""


def _tags(candidate: Candidate, served: ServedModel, gates: Sequence[Gate]) -> dict[str, object]:
    origin, failed = served.provenance, [gate.name for gate in gates if gate.outcome == "failed"]
    return {
        IDENTITY: identity(candidate.asked, candidate.training_sha256),
        "arm": served.arm,
        "kind": served.kind,
        "model": served.model,
        "provider": _provider(served).kind if served.kind != "linear" else None,
        "base_model": _provider(served).base_model if served.kind != "linear" else None,
        "data": served.config.data.name,
        "accuracy": candidate.measured.accuracy.value,
        "gates": f"failed: {', '.join(failed)}" if failed else "passed",
        "evaluation_run": origin.run_id,
        "training_run": origin.training_run_id,
        "job_id": origin.job_id,
        "git_revision": origin.git_revision,
        "data_sha256": origin.data_sha256,
        "training_sha256": origin.training_sha256,
        "test_sha256": origin.test_sha256,
    }


def _description(candidate: Candidate, served: ServedModel) -> str:
    metrics, origin = candidate.measured.metrics, served.provenance
    return (
        f"Arm **{served.arm}** (`{served.model}`), accuracy {with_interval(metrics.accuracy)} on {metrics.n} test "
        f"reviews of {served.config.data.name}. Evaluation: run `{origin.run_id}`; job: `{origin.job_id or '-'}`; "
        f"git: `{origin.git_revision or '-'}`. `reviewtune lineage {(origin.run_id or '')[:12]}` shows the rest."
    )
