"""Load the configuration: params.yaml for stages, a Hydra tree for sweeps; both are validated in the same way."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reviewtune.core.config import conf_files
from reviewtune.core.config.config import Config
from reviewtune.core.config.section import SectionT
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

MANY = 5  # faults with the same message that are all named


def load_params(path: Path = Path("params.yaml")) -> Config:
    """Read and validate params.yaml.

    Raises:
        ConfigError: the file does not exist, is not valid YAML or has faults; the message lists all of them.
    """
    from omegaconf import OmegaConf

    try:
        tree = OmegaConf.to_container(OmegaConf.load(path))  # `make params` has resolved it: a `${` left is text
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; run `make params` in the project's folder") from error
    except Exception as error:  # OmegaConf and PyYAML share no base class
        raise ConfigError(f"{path}: {' '.join(str(error).split())}; run `make params` to write it again") from error
    return _checked(tree, source=str(path), conf=path.parent / "conf")


def from_hydra(tree: "DictConfig", conf: Path | None = None) -> Config:
    """Validate a configuration that Hydra composed.

    Args:
        tree: the configuration.
        conf: the folder that it was composed from, for messages; None: the project's.

    Raises:
        ConfigError: as `load_params`.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folder = conf or project_root() / "conf"
    try:
        if missing := sorted(OmegaConf.missing_keys(tree)):
            raise ConfigError(_missing(missing, OmegaConf.to_container(tree), folder))
        container = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"conf/: {' '.join(str(error).split())}") from error
    return _checked(container, source="conf/", conf=folder)


def compose_text(overrides: Sequence[str] = (), conf: Path = Path("conf")) -> str:
    """Compose conf/ to one resolved YAML text, the same bytes that `dvc exp run` writes into params.yaml.

    Args:
        overrides: such as `provider=openai` or `training.n_epochs=2`.
        conf: the folder.

    Raises:
        ConfigError: an unknown group, variant or key, or a wrong value.
    """
    return composition(overrides, conf)[1]


def composition(overrides: Sequence[str], conf: Path) -> tuple[Config, str]:
    """Compose conf/ to a configuration and to its text; arguments and errors as in `compose_text`."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with _hydra_released(), initialize_config_dir(str(conf.resolve()), version_base=None):
            tree = compose("config", overrides=list(overrides))
    except Exception as error:  # Hydra, OmegaConf and PyYAML share no base class
        raise ConfigError("; ".join(_reasons(error, conf))) from error
    config = from_hydra(tree, conf)
    try:
        OmegaConf.resolve(tree)
    except OmegaConfBaseException as error:  # a text with an escaped `${` that has no end
        raise ConfigError(f"{conf}/: {' '.join(str(error).split())}") from error
    return config, OmegaConf.to_yaml(tree)


def _reasons(error: Exception, conf: Path) -> list[str]:
    """Hydra's own words; for files that it could not read their faults, with file and line."""
    from hydra.errors import HydraException
    from omegaconf.errors import KeyValidationError

    words = [f"{conf}/: {_hydras_words(error)}"]
    is_readable = isinstance(error, HydraException) and not isinstance(error.__cause__, KeyValidationError)
    return words if is_readable else conf_files.faults(conf) or words


def _hydras_words(error: Exception) -> str:
    """In one line, without the list of folders that Hydra searched."""
    words = " ".join(str(error).partition("Config search path:")[0].split()) or type(error).__name__
    return words.replace("' Available options", "'; available options")


def load_config(overrides: Sequence[str] = ()) -> Config:
    """Load the project's params.yaml or, with overrides such as `provider=openai`, compose conf/.

    Raises:
        ConfigError: as `load_params` and `compose_text`.
    """
    root = project_root()
    return composition(overrides, root / "conf")[0] if overrides else load_params(root / "params.yaml")


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


def _missing(keys: Sequence[str], tree: object, conf: Path) -> str:
    """The settings whose value is ???, each with its file."""
    places = [conf_files.place(conf, tree, key.split(".")) if isinstance(tree, Mapping) else "" for key in keys]
    named = [f"{place or 'conf/'}: {key}" for place, key in zip(places, keys, strict=True)]
    return f"{'; '.join(named)}: a value is missing (???); write it there, or pass {keys[0]}=VALUE to the command"


def _checked(tree: Any, *, source: str, conf: Path) -> Config:  # noqa: ANN401 - any YAML value
    if not _has_text_keys(tree):
        reasons = conf_files.faults(conf) or [f"{source}: a key is not text; put it in quotes"]
        raise ConfigError("; ".join(reasons))
    try:
        # JSON mode: there strict accepts a list for a tuple and a string for a path, but not a string for a number.
        return Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ConfigError(_all_faults(error, source, lambda keys: conf_files.place(conf, tree, keys))) from error


def _has_text_keys(tree: object) -> bool:
    """Whether YAML read every key as text: `yes:` is a truth value to it, and `1.0:` a number."""
    if isinstance(tree, list):
        return all(map(_has_text_keys, tree))
    return not isinstance(tree, dict) or all(isinstance(key, str) and _has_text_keys(tree[key]) for key in tree)


def _all_faults(error: ValidationError, source: str, place: Callable[[Sequence[str]], str] = lambda _: "") -> str:
    """One clause per path; messages on the branches of a union such as `auto | number` are joined by "or".

    Args:
        error: the faults.
        source: where the values are from.
        place: the file and line of a key; empty if they are not known.
    """
    clauses: dict[tuple[str, ...], list[str]] = {}
    for fault in error.errors():
        clauses.setdefault(_keys(fault["loc"]), []).append(_message(fault["type"], fault["msg"], fault["input"]))
    messages: dict[str, list[tuple[str, ...]]] = {}
    for keys, parts in clauses.items():
        messages.setdefault(" or ".join(parts), []).append(keys)
    texts = [text for message, paths in messages.items() for text in _clauses(message, paths, place)]
    if len(clauses) == 1 and texts[0].startswith("conf/"):
        return texts[0]
    return f"{source}: {len(clauses)} fault{'s' * (len(clauses) > 1)}: " + "; ".join(texts)


def _clauses(message: str, paths: Sequence[tuple[str, ...]], place: Callable[[Sequence[str]], str]) -> list[str]:
    """The message with each path and its place; if there are many paths, with the first ones."""
    texts = []
    for keys in paths if len(paths) <= MANY else paths[:1]:
        where = place(keys or message.partition(":")[0].split("."))  # a rule on several keys begins with one of them
        texts.append(": ".join(filter(None, (where, ".".join(keys), message))))
    if len(paths) > MANY:
        others = ", ".join(".".join(keys) for keys in paths[1:MANY])
        texts[0] += f" (the same is true of {others} and {len(paths) - MANY} more)"
    return texts


def _keys(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The path as users write it: without pydantic's names for the branches of a union."""
    parts = [str(part) for part in location if not re.match(r"literal\[|constrained-|float$|int$", str(part))]
    if parts[:1] == ["arms"] and len(parts) > 2:
        del parts[2]  # the arm's kind, which pydantic adds after its name
    return tuple(parts)


def _message(kind: str, message: str, value: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "missing"
    shown = "" if isinstance(value, dict | list) else f" (got {value!r})"
    quotes = "; put it in quotes" if kind == "string_type" and isinstance(value, bool | int | float) else ""
    text = message.removeprefix("Value error, ").replace("Input should be", "should be")
    return text.replace("an object", "a mapping, with a line `key: value` for each") + shown + quotes
