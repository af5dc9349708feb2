"""Which models of which providers this project uses: its configuration, last fine-tune, champion, and stored runs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.project import ProjectPaths
from reviewtune.providers.lifecycle import base_of, names_of, warn
from reviewtune.tracking.queries import find_runs
from reviewtune.tracking.registry import CHAMPION, PREVIOUS, RegisteredVersion, by_alias, is_empty
from reviewtune.tracking.runs import RunRecord


@dataclass(frozen=True)
class Use:
    """Something of the project that needs a model.

    Args:
        provider: who serves the model.
        model: its name.
        base: its base model; a base model's own name.
        by: who needs it, such as "arm zero_shot".
        trains: whether jobs are to be created with it, so that the end of the training matters.
    """

    provider: ProviderConfig
    model: str
    base: str
    by: str
    trains: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """By which it is known what ends."""
        return self.model, self.base


def configured(config: Config) -> list[Use]:
    """The base models of params.yaml: the one that is fine-tuned, and those of the prompted arms."""
    own = config.provider
    uses = [Use(own, own.base_model, own.base_model, "provider.base_model", trains=True)]
    for name, arm in config.arms.items():
        if isinstance(arm, PromptArmConfig):
            uses.append(Use(arm.provider, arm.provider.base_model, arm.provider.base_model, f"arm {name}"))
    return uses


def answering(arm: str, model: str, config: Config) -> Use:
    """A model that answers as this arm; the fine-tune and its checkpoints are not arms of the configuration."""
    settings = config.arms.get(arm)
    provider = settings.provider if isinstance(settings, PromptArmConfig) else config.provider
    return Use(provider, model, provider.base_model, f"arm {arm}")


def warn_of(uses: Iterable[Use], config: Config, say: Callable[[str], object]) -> None:
    """Report what ends soon, one line per model; no provider is asked."""
    for use in sorted(uses, key=lambda use: not use.trains):  # the line of a model that is trained says more
        warn(say, use.provider, use.names, config.lifecycle, trains=use.trains)


def last_finetune(config: Config, paths: ProjectPaths) -> list[Use]:
    """The model of the last `dvc repro`, if there is one.

    Raises:
        DataError: its record is damaged.
    """
    if not paths.model_record.exists():
        return []
    from reviewtune.finetuning.model_record import read_record  # imports openai and pandas

    record = read_record(paths.model_record)
    provider = _provider(config, record.provider, None)
    return [Use(provider, record.model, record.base_model, "the last `dvc repro`")]


def trained(config: Config) -> list[RunRecord]:
    """The runs of fine-tunes and of sweeps' jobs whose models are there; those that `clean` removed are not.

    Raises:
        TrackingError: the store does not answer.
    """
    if is_empty(config.tracking):
        return []
    runs = find_runs(config.tracking)
    return [run for run in runs if run.tags.get("kind") in ("finetune", "job") and "model" in run.tags]


def of_runs(config: Config, runs: Iterable[RunRecord]) -> list[Use]:
    """The fine-tunes of these runs; those with the same base model at the same provider are one use."""
    groups: dict[tuple[str, str, str | None], set[str]] = {}
    for run in runs:
        base = run.tags.get("base_model", run.tags["model"])
        kind = run.tags.get("provider", config.provider.kind)
        groups.setdefault((kind, base, run.params.get("provider.base_url")), set()).add(run.tags["model"])
    uses = []
    for (kind, base, address), models in groups.items():
        name = min(models) if len(models) == 1 else f"{len(models)} fine-tunes of {base}"
        uses.append(Use(_provider(config, kind, address), name, base, "stored runs"))
    return uses


def in_registry(config: Config, runs: Iterable[RunRecord]) -> list[Use]:
    """The champion and the one before, unless they need no provider.

    Args:
        config: the project's configuration.
        runs: as of `trained`; they say who trained a version of an earlier release.

    Raises:
        TrackingError: the registry does not answer.
    """
    by_model = {run.tags["model"]: run.tags for run in runs}
    found = [(alias, by_alias(config.tracking, config.registered_name, alias)) for alias in (CHAMPION, PREVIOUS)]
    return [
        _of_version(version, alias, config, by_model.get(version.tags.get("model", ""), {}))
        for alias, version in found
        if version is not None and version.tags.get("kind") != "linear"
    ]


def _of_version(version: RegisteredVersion, alias: str, config: Config, training: Mapping[str, str]) -> Use:
    tags = {**training, **version.tags}
    provider = _provider(config, tags.get("provider", config.provider.kind), None)
    model = tags.get("model", config.provider.base_model)
    guess = model if tags.get("kind") == "prompt" else base_of(names_of(model, provider.base_model)[-1])
    base = tags.get("base_model", guess)  # a version of an earlier release does not say it
    return Use(provider, model, base, f"{alias} (version {version.version} of {version.name})")


def _provider(config: Config, kind: str, address: str | None) -> ProviderConfig:
    """The configured provider of this kind and address; else one that is known by its kind only."""
    known = [config.provider, *(arm.provider for arm in config.arms.values() if isinstance(arm, PromptArmConfig))]
    url = address if address and address != "null" else None
    same = [one for one in known if one.kind == kind and (address is None or one.base_url == url)]
    return same[0] if same else config.provider.model_copy(update={"kind": kind, "base_url": url})
