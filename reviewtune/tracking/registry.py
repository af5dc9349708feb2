"""The door to MLflow's model registry: registered models, their versions, who has which alias.

A version is complete when it appears: its files are uploaded first, as one of MLflow's logged models, which stays
PENDING until they are all there. aliases.py decides which version is `champion` and `previous`.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reviewtune.errors import TrackingError
from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.addresses import artifacts_path
from reviewtune.tracking.entities import TAG_LENGTH
from reviewtune.tracking.process import is_of_this_machine, is_running, this_process

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from reviewtune.core.config.config import TrackingConfig

CHAMPION, PREVIOUS = "champion", "previous"
FOLDER = "served_model"
"""Name of the served model's folder inside of a version's files, below MLflow's own folder `data`."""
STATE, READY = "state", "ready"
"""Tag of a version that `register` made. It gets it in the same step in which it appears."""
ABANDONED_SECONDS = 24 * 60 * 60
"""After which an upload of another machine that became no version is one of a process that died."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model.

    Args:
        name: of the registered model.
        version: its number, from 1.
        aliases: such as champion.
        tags: what promotion noted.
        description: Markdown, shown on the version's page.
        run_id: MLflow run of the evaluation.
        created: when it was registered, in Unix seconds.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    description: str
    run_id: str | None
    created: float

    @property
    def address(self) -> str:
        """How MLflow's tools name it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def is_ready(self) -> bool:
        return self.tags.get(STATE) == READY


@dataclass(frozen=True)
class Package:
    """What makes a folder a model that MLflow's tools can load and serve.

    Args:
        loader: module whose `_load_pyfunc(folder)` returns an object with `predict(table)`.
        code: the Python package with that module; it is stored with the model.
        requirements: what pip must install to load it, such as "pandas==3.1.1".
        inputs: columns that `predict` takes, with their types in MLflow's words, such as "string".
        outputs: columns that it returns; all may be empty.
        example: rows to try it with.
    """

    loader: str
    code: Path
    requirements: Sequence[str]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    example: "pd.DataFrame"


def by_alias(settings: "TrackingConfig", name: str, alias: str = CHAMPION) -> RegisteredVersion | None:
    """The version that has the alias; None if no version has it. One query, so that it can be asked often.

    Raises:
        TrackingError: the registry does not answer.
    """
    if is_empty(settings):
        return None
    found = tracking_store.open_store(settings).get_version_or_none(name, alias)
    return None if found is None else _version(found)


def versions(settings: "TrackingConfig", name: str | None = None) -> list[RegisteredVersion]:
    """All versions of a registered model, or of all registered models, newest first.

    Raises:
        TrackingError: the registry does not answer.
    """
    found = _search(settings, "" if name is None else f"name = '{name}'")
    return sorted(found, key=lambda version: (version.name, -version.version))


def with_alias(settings: "TrackingConfig") -> list[RegisteredVersion]:
    """The versions of all registered models that have an alias: what somebody may be using.

    Raises:
        TrackingError: the registry does not answer.
    """
    return [version for version in _search(settings) if version.aliases]


def register(
    settings: "TrackingConfig",
    name: str,
    folder: Path,
    *,
    package: Package,
    run_id: str | None,
    tags: Mapping[str, object],
    description: str,
) -> RegisteredVersion:
    """Store a folder as a new version. If this is interrupted, there is no version, only a logged model.

    The next call removes the logged models that killed processes left.

    Args:
        settings: the section `tracking`.
        name: of the registered model, which is created if necessary.
        folder: what `download` returns later.
        package: how MLflow's tools load it.
        run_id: MLflow run of the evaluation.
        tags: of the version; None is left out.
        description: Markdown, shown on the version's page.

    Raises:
        TrackingError: the registry does not answer, or it refuses the model.
    """
    store = tracking_store.open_store(settings)
    _remove_leftovers(store, name)
    with tempfile.TemporaryDirectory(prefix="reviewtune-") as scratch:
        files = _as_mlflow_model(folder, package, Path(scratch))
        logged = store.create_logged_model(
            store.experiment, name=name, source_run_id=run_id, tags={"process": this_process()}, model_type="classifier"
        )
        store.log_model_artifacts(logged.model_id, str(files))
    store.finalize_logged_model(logged.model_id, "READY")
    _create_model(store, name)
    noted = {**tags, STATE: READY}
    texts = {key: str(value)[:TAG_LENGTH] for key, value in noted.items() if value is not None}
    with tracking_store.as_default_store(store):  # MLflow looks the logged model up there
        made = store.create_model_version(
            name, f"models:/{logged.model_id}", run_id, texts, description=description, model_id=logged.model_id
        )
    return _version(made)


def download(settings: "TrackingConfig", version: RegisteredVersion, to: Path) -> Path:
    """Copy the folder that was registered into the folder `to`; returns its path there.

    Raises:
        TrackingError: the registry does not answer, or the files are gone.
    """
    store = tracking_store.open_store(settings)
    place = store.get_model_version_download_uri(version.name, str(version.version))
    with tracking_store.plain_errors(store.uri):
        from mlflow.artifacts import download_artifacts

        uri = f"{str(place).rstrip('/')}/data/{FOLDER}"
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=store.uri))


def set_tags(settings: "TrackingConfig", version: RegisteredVersion, tags: Mapping[str, object]) -> None:
    """Add or replace tags of a version.

    Raises:
        TrackingError: the registry does not answer.
    """
    store = tracking_store.open_store(settings)
    for key, value in tags.items():
        store.set_model_version_tag(version.name, str(version.version), key, str(value)[:TAG_LENGTH])


def is_empty(settings: "TrackingConfig") -> bool:
    """Whether the project's own store does not exist yet; a question must not create it."""
    return not settings.uri and not (tracking_store.own_folder() / tracking_store.DATABASE).exists()


def _search(settings: "TrackingConfig", query: str = "") -> list[RegisteredVersion]:
    """Versions with their aliases, which MLflow's search returns with the registered models only."""
    if is_empty(settings):
        return []
    store = tracking_store.open_store(settings)
    aliases: dict[tuple[str, int], list[str]] = {}
    for model in _pages(store.search_registered_models, query):
        for alias, number in model.aliases.items():
            aliases.setdefault((model.name, int(number)), []).append(alias)
    found = map(_version, _pages(store.search_model_versions, query))
    return [replace(one, aliases=tuple(sorted(aliases.get((one.name, one.version), [])))) for one in found]


def _pages(search: Callable[..., Any], query: str) -> Iterator[Any]:
    token = None
    while token != "":
        page = search(query, page_token=token)
        yield from page
        token = page.token or ""


def _remove_leftovers(store: tracking_store.Store, name: str) -> None:
    """Remove logged models that became no version because their process died; others may still be at it."""
    search = partial(store.search_logged_models, [store.experiment])
    abandoned = [logged for logged in _pages(search, f"name = '{name}'") if _is_abandoned(logged)]
    # Asked after it is known that these processes ended, so that none of them can add a version.
    sources = [str(one.source) for one in _pages(store.search_model_versions, f"name = '{name}'")]
    for logged in abandoned:
        if not any(logged.model_id in source for source in sources):
            store.delete_logged_model(logged.model_id)
            shutil.rmtree(artifacts_path(str(logged.artifact_location)).parent, ignore_errors=True)


def _is_abandoned(logged: "LoggedModel") -> bool:
    """Whether the process that uploaded it is dead: one of this machine is known to be, any other after a day."""
    process = logged.tags.get("process", "")
    if is_of_this_machine(process):
        return not is_running(process)
    return bool(process) and time.time() - logged.creation_timestamp / 1000 > ABANDONED_SECONDS


def _create_model(store: tracking_store.Store, name: str) -> None:
    try:
        store.create_registered_model(name)
    except TrackingError:
        store.get_registered_model(name)  # it exists already; any other fault is raised here again


def _as_mlflow_model(folder: Path, package: Package, scratch: Path) -> Path:
    """The folder of MLflow's own format around a copy of `folder`, with the code that loads it.

    Neither contains a pickle: MLflow imports `package.loader` and gives it the folder.
    """
    data, code, target = scratch / FOLDER, scratch / "code" / package.code.name, scratch / "model"
    shutil.copytree(folder, data)
    shutil.copytree(package.code, code, ignore=shutil.ignore_patterns("__pycache__"))
    with tracking_store.plain_errors(str(target)):
        from mlflow.models import ModelSignature
        from mlflow.pyfunc import save_model
        from mlflow.types import ColSpec, Schema

        inputs = Schema([ColSpec(kind, name) for name, kind in package.inputs.items()])
        outputs = Schema([ColSpec(kind, name, required=False) for name, kind in package.outputs.items()])
        save_model(
            path=str(target),
            loader_module=package.loader,
            data_path=str(data),
            code_paths=[str(code)],
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            input_example=package.example,
            pip_requirements=list(package.requirements),
        )
    return target


def _version(found: "ModelVersion") -> RegisteredVersion:
    return RegisteredVersion(
        name=found.name,
        version=int(found.version),
        aliases=tuple(sorted(found.aliases or ())),
        tags=dict(found.tags or {}),
        description=found.description or "",
        run_id=found.run_id or None,
        created=found.creation_timestamp / 1000,
    )
