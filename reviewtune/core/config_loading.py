"""Load the configuration: params.yaml for stages, a Hydra tree for sweeps; both end in one strict check."""

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
    """Read and check params.yaml.

    Raises:
        ConfigError: no such file, no YAML, or any fault in it; all faults in one message.
    """
    from omegaconf import OmegaConf

    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; run `make params`, in the project's folder") from error
    except Exception as error:  # OmegaConf and PyYAML share no base class
        raise ConfigError(f"{path}: {' '.join(str(error).split())}; run `make params` to write it anew") from error
    return _checked(tree, source=str(path))


def from_hydra(tree: "DictConfig") -> Config:
    """Check a configuration that Hydra composed.

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
    """conf/ as one resolved YAML text: the same bytes that `dvc exp run` writes into params.yaml.

    Raises:
        ConfigError: an unknown group, variant or key, or a faulty value.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    try:
        with _hydra_put_aside(), initialize_config_dir(str(conf.resolve()), version_base=None):
            tree = compose("config", overrides=list(overrides))
    except Exception as error:  # Hydra, OmegaConf and PyYAML share no base class
        raise ConfigError(f"{conf}/: {' '.join(str(error).split())}") from error
    from_hydra(tree)
    OmegaConf.resolve(tree)
    return OmegaConf.to_yaml(tree)


def load_config(overrides: Sequence[str] = ()) -> Config:
    """The project's params.yaml, or with overrides, such as `provider=openai`, what conf/ makes of them.

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
    """A section with other values, checked like the first ones.

    Raises:
        ConfigError: a value that is not allowed; `source` says where it stood.
    """
    return section_of(type(section), section.model_dump(mode="json") | values, source)


def section_of(kind: type[SectionT], values: Mapping[str, object], source: str) -> SectionT:
    """A section of these values.

    Raises:
        ConfigError: as `changed`.
    """
    try:
        return kind.model_validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        raise ConfigError(_all_faults(error, source)) from error


@contextmanager
def _hydra_put_aside() -> Iterator[None]:
    """Hydra composes for one application at a time: a sweep that is running steps aside meanwhile."""
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        if running is not None:
            GlobalHydra.instance().clear()
            GlobalHydra.instance().initialize(running)


def _checked(tree: Any, *, source: str) -> Config:  # noqa: ANN401 - whatever the YAML holds
    try:
        # JSON mode: strict there still takes a list for a tuple and a text for a path, but no text for a number.
        return Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ConfigError(_all_faults(error, source)) from error


def _all_faults(error: ValidationError, source: str) -> str:
    """One clause a path; the branches of a choice such as `auto | number` are joined by "or"."""
    clauses: dict[str, list[str]] = {}
    for fault in error.errors():
        clauses.setdefault(_dotted(fault["loc"]), []).append(_message(fault["type"], fault["msg"], fault["input"]))
    faults = [f"{path}: {' or '.join(messages)}".removeprefix(": ") for path, messages in clauses.items()]
    return f"{source}: {len(faults)} fault{'s' * (len(faults) > 1)}: " + "; ".join(faults)


def _dotted(location: tuple[int | str, ...]) -> str:
    """The path as people write it: without the names pydantic gives to the branches of a choice."""
    parts = [str(part) for part in location if not re.match(r"literal\[|constrained-|float$|int$", str(part))]
    if parts[:1] == ["arms"] and len(parts) > 2:
        del parts[2]  # the arm's kind, which pydantic puts behind its name
    return ".".join(parts)


def _message(kind: str, message: str, value: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "missing"
    shown = "" if isinstance(value, dict | list) else f" (got {value!r})"
    return message.removeprefix("Value error, ").replace("Input should be", "should be") + shown
