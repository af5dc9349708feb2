"""The configuration of the new model: that of the project, with another provider.

Data, splits and prompt stay as they are, so that both models are asked the same about the same reviews.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reviewtune.core.atomic_files import write_text
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.errors import ConfigError

SETTABLE = ("provider", "training")
"""Sections that may differ between the old and the new model."""
SHARED = ("data", "split", "prompt")
"""Sections that must not differ."""
KEY_DIGITS = 16


@dataclass(frozen=True)
class NewSettings:
    """The configuration of the new model.

    Args:
        config: the configuration.
        text: the same as YAML, as params.yaml holds it.
        folder: where files of this move are kept; equal settings have the same folder.
    """

    config: Config
    text: str
    folder: Path

    @property
    def params(self) -> Path:
        """The file with `text`."""
        return ProjectPaths(self.folder).params


def new_settings(provider: str, overrides: Sequence[str], project: Config, root: Path) -> NewSettings:
    """Compose conf/ with the new provider, as `dvc exp run -S provider=NAME` does: equal settings are the same job.

    Args:
        provider: a file of conf/provider, without its ending.
        overrides: such as `provider.base_model=llama-3`.
        project: the project's params.yaml, which the splits were made with.
        root: the project's folder.

    Raises:
        ConfigError: an unknown provider or a wrong value; an override of another section; conf/ does not describe the
            splits that the project has.
    """
    _refuse_other_sections(overrides)
    text = compose_text([f"provider={provider}", *overrides], root / "conf")
    digest = hashlib.sha256(text.encode()).hexdigest()
    settings = NewSettings(_loaded(text, root, digest), text, _folder(root, digest))
    _refuse_other_data(settings.config, project)
    return settings


def _folder(root: Path, digest: str) -> Path:
    return ProjectPaths(root).work / "rebase" / digest[:KEY_DIGITS]


def _loaded(text: str, root: Path, digest: str) -> Config:
    params = ProjectPaths(_folder(root, digest)).params
    write_text(text, params)
    return load_params(params)


def _refuse_other_sections(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, separator, _ = override.lstrip("+~").partition("=")
        if not separator:
            raise ConfigError(f"{override}: not a setting; write it as provider.base_model=NAME")
        if key.partition(".")[0] not in SETTABLE or key in SETTABLE:
            raise ConfigError(
                f"{key} cannot be set here: old and new model are compared with the same data and prompt, so that only "
                "provider.* and training.* may differ; name the provider with --provider"
            )


def _refuse_other_data(new: Config, project: Config) -> None:
    for section in SHARED:
        if getattr(new, section) != getattr(project, section):
            raise ConfigError(
                f"conf/ and params.yaml differ in the section {section}: run `make params` and `dvc repro`, so that "
                "both models are trained with the same data and prompt"
            )
