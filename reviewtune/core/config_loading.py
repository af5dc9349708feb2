"""Load the configuration: params.yaml for stages, a Hydra tree for sweeps; both are validated in the same way."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reviewtune.core.config import Config, SectionT
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def load_params(path: Path = Path("params.yaml")) -> Config:
    """Read and validate params.yaml.

    Raises:
        ConfigError: the file does not exist, is not valid YAML or has faults; the message lists all of them.
    """
    from omegaconf import OmegaConf

    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; run `make params` in the project's folder") from error
    except Exception as error:  # OmegaConf and PyYAML share no base class
        raise ConfigError(f"{path}: {' '.join(str(error).split())}; run `make params` to write it again") from error
    return _checked(tree, source=str(path))


def from_hydra(tree: "DictConfig") -> Config:
    """Validate a configuration that Hydra composed.

    Raises:
        ConfigError: as `load_params`.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        container = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"conf/: {' '.join(str(error).split())}") from error
    return _checked(container, source="conf/")


def compose_text(overrides: Sequence[str] = (), conf: Path = Path("conf")) -> str:
    """Compose conf/ to one resolved YAML text, the same bytes that `dvc exp run` writes into params.yaml.

    Args:
        overrides: such as `provider=openai` or `training.n_epochs=2`.
        conf: the folder.


    Raises:
        ConfigError: an unknown group, variant or key, or a wrong value.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    try:
        with _hydra_released(), initialize_config_dir(str(conf.resolve()), version_base=None):
            tree = compose("config", overrides=list(overrides))
    except Exception as error:  # Hydra, OmegaConf and PyYAML share no base class
        raise ConfigError(f"{conf}/: {' '.join(str(error).split())}") from error
    from_hydra(tree)
    OmegaConf.resolve(tree)
    return OmegaConf.to_yaml(tree)


def load_config(overrides: Sequence[str] = ()) -> Config:
    """Load the project's params.yaml or, with overrides such as `provider=openai`, compose conf/.

    Raises:
        ConfigError: as `load_params` and `compose_text`.
    """
    from omegaconf import DictConfig, OmegaConf

    root = project_root()
    if not overrides:
        return load_params(root / "params.yaml")
    tree = OmegaConf.create(compose_text(overrides, root / "conf"))
    assert isinstance(tree, DictConfig), "compose_text writes a mapping"
    return from_hydra(tree)


def changed(section: SectionT, source: str, **values: object) -> SectionT:
    """A copy of the section with other values, validated again.

    Args:
        section: the section.
        source: where the values are from, for the error message.
        **values: by field name.

    Raises:
        ConfigError: a value is not allowed.
    """
    return section_of(type(section), section.model_dump(mode="json") | values, source)


def section_of(kind: type[SectionT], values: Mapping[str, object], source: str) -> SectionT:
    """Build a section from values by field name; `source` says where they are from.

    Raises:
        ConfigError: a value is not allowed, missing or unknown.
    """
    try:
        return kind.model_validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        raise ConfigError(_all_faults(error, source)) from error


@contextmanager
def _hydra_released() -> Iterator[None]:
    """Release Hydra's global state, which belongs to one application at a time, and restore it for a running sweep."""
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        if running is not None:
            GlobalHydra.instance().clear()
            GlobalHydra.instance().initialize(running)


def _checked(tree: Any, *, source: str) -> Config:  # noqa: ANN401 - any YAML value
    try:
        # JSON mode: there strict accepts a list for a tuple and a string for a path, but not a string for a number.
        return Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ConfigError(_all_faults(error, source)) from error


def _all_faults(error: ValidationError, source: str) -> str:
    """One clause per path; messages on the branches of a union such as `auto | number` are joined by "or"."""
    clauses: dict[str, list[str]] = {}
    for fault in error.errors():
        clauses.setdefault(_dotted(fault["loc"]), []).append(_message(fault["type"], fault["msg"], fault["input"]))
    faults = [f"{path}: {' or '.join(messages)}".removeprefix(": ") for path, messages in clauses.items()]
    return f"{source}: {len(faults)} fault{'s' * (len(faults) > 1)}: " + "; ".join(faults)


def _dotted(location: tuple[int | str, ...]) -> str:
    """The path as users write it: without pydantic's names for the branches of a union."""
    parts = [str(part) for part in location if not re.match(r"literal\[|constrained-|float$|int$", str(part))]
    if parts[:1] == ["arms"] and len(parts) > 2:
        del parts[2]  # the arm's kind, which pydantic adds after its name
    return ".".join(parts)


def _message(kind: str, message: str, value: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "missing"
    shown = "" if isinstance(value, dict | list) else f" (got {value!r})"
    return message.removeprefix("Value error, ").replace("Input should be", "should be") + shown
