"""Build the chain of models for an analyzer: the champion with its fallbacks, or one model of the project."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.analyzer.champion import Champion, ChampionSource
from reviewtune.analyzer.classifier import Classifier
from reviewtune.analyzer.fallback import Chain, Member, log
from reviewtune.analyzer.open_classifier import open_arm, open_classifier
from reviewtune.analyzer.served_model import TRAINING_REVIEWS, ServedModel, read_served_model
from reviewtune.core.config.arms import EvaluationConfig, PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.lifecycle import LifecycleConfig
from reviewtune.core.formatting import listed
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import Progress
from reviewtune.errors import ConfigError, DataError
from reviewtune.evaluation.subject import zero_shot_arm
from reviewtune.providers.lifecycle import EndingNotice, names_of

if TYPE_CHECKING:
    import pandas as pd

PREVIOUS, UNSURE = "previous", "unsure"


@dataclass(frozen=True, kw_only=True)
class ChainOptions:
    """How the models of a chain are opened.

    Args:
        fallbacks: who answers after the first model: "previous" (the champion before), names of arms, and "unsure";
            None: the usual ones.
        rest: seconds without a question to a model that failed several times.
        seconds: how long an answer may take; None: provider.timeout.
        limit: seconds that one model may take for all reviews of a call; None: as long as their answers take.
        project: its training split is read for an arm that needs it; None: there is no project.
        progress: receives messages.
        is_capped: whether the project's evaluation.budget_usd counts, as in a command for a file.
        lifecycle: the project's facts on what ends; None: those that were known at the promotion.
        limits: with the budget and the rates of the project; None: those of the promotion.
    """

    fallbacks: Sequence[str] | None
    rest: float
    seconds: float | None
    limit: float | None
    project: ProjectPaths | None
    progress: Progress
    is_capped: bool = False
    lifecycle: LifecycleConfig | None = None
    limits: EvaluationConfig | None = None


def champion_chain(champion: Champion, source: ChampionSource, before: Chain | None, options: ChainOptions) -> Chain:
    """The champion, then its fallbacks: by default the champion before, the zero-shot arm, and `unsure`.

    Args:
        champion: the champion.
        source: fetches its folder.
        before: the chain until now, whose first model is the champion before if the source knows none.
        options: how the models are opened.

    Raises:
        ConfigError: a fallback has an unknown name.
        DataError: the champion's folder is not complete, or damaged.
    """
    folder = source.fetch(champion.version)
    served = read_served_model(folder)
    head = Member(
        "the champion", lambda: _opened(folder, champion.version, options), rest=options.rest, limit=options.limit
    )
    head.classifier()  # so that a folder that cannot be opened is noticed before it answers
    source.remember(champion)
    chosen = _usual(served) if options.fallbacks is None else options.fallbacks
    members = [head]
    config = served.config.with_limits(options.limits)
    for name in _known(chosen, config):
        if name == PREVIOUS:
            members += _previous(champion, served.labels, source, before, options)
        else:
            members.append(arm_member(name, config, options, training=folder / TRAINING_REVIEWS))
    return Chain(members, unsure=UNSURE in chosen, notice=_notice(served, options))


def single_chain(first: Member, config: Config, options: ChainOptions, *, names: Sequence[str]) -> Chain:
    """One model of the project; by default without fallbacks, so that a fault is raised.

    Args:
        first: the model.
        config: the project's configuration.
        options: how the models are opened.
        names: of the model, by which it is known whether it ends soon.

    Raises:
        ConfigError: a fallback has an unknown name.
    """
    chosen = options.fallbacks or ()
    arms = [arm_member(name, config, options) for name in _known(chosen, config) if name != PREVIOUS]
    notice = EndingNotice(log.warning, config.provider, names, config.lifecycle)
    return Chain([first, *arms], unsure=UNSURE in chosen, notice=notice)


def arm_member(name: str, config: Config, options: ChainOptions, training: Path | None = None) -> Member:
    """An arm of the configuration.

    Args:
        name: of the arm.
        config: the configuration.
        options: how it is opened.
        training: where its training reviews may be, in addition to the project's training split.
    """

    def reviews() -> "pd.DataFrame":
        from reviewtune.data.reviews import read_reviews

        own = [options.project.splits.train] if options.project else []
        path = next((path for path in (*own, *filter(None, [training])) if path.exists()), None)
        if path is None:
            raise DataError(f"arm {name} answers with the training reviews, and there are none: run `dvc repro split`")
        return read_reviews(path)

    def opener() -> Classifier:
        return open_arm(name, config, reviews, seconds=options.seconds, progress=options.progress)

    return Member(f"arm {name}", opener, rest=options.rest, limit=options.limit)


def _notice(served: ServedModel, options: ChainOptions) -> EndingNotice | None:
    """Logs once if the champion's model ends soon; None: it is a part of its folder."""
    if served.kind == "linear":
        return None
    arm, config = served.config.arms.get(served.arm), served.config
    provider = arm.provider if served.kind == "prompt" and isinstance(arm, PromptArmConfig) else config.provider
    names = names_of(served.model, provider.base_model)
    return EndingNotice(log.warning, provider, names, options.lifecycle or config.lifecycle)


def _opened(folder: Path, version: str, options: ChainOptions) -> Classifier:
    return open_classifier(
        folder, version=version, limits=options.limits, seconds=options.seconds, progress=options.progress
    )


def _previous(
    champion: Champion, labels: Sequence[str], source: ChampionSource, before: Chain | None, options: ChainOptions
) -> list[Member]:
    version = champion.previous
    if version is not None:
        opener = lambda: _with_known_labels(_opened(source.fetch(version), version, options), labels)  # noqa: E731
    elif before is not None:
        classifier = before.head
        opener = lambda: _with_known_labels(classifier, labels)  # noqa: E731
    else:
        return []
    return [Member("the previous champion", opener, rest=options.rest, limit=options.limit)]


def _with_known_labels(classifier: Classifier, labels: Sequence[str]) -> Classifier:
    """The classifier.

    Raises:
        DataError: it can give a label that is not one of these.
    """
    if others := sorted(set(classifier.labels) - set(labels)):
        raise DataError(f"it can give labels that the champion does not have: {listed(others, shown=5)}")
    return classifier


def _usual(served: ServedModel) -> tuple[str, ...]:
    try:
        name, _ = zero_shot_arm(served.config)
    except ConfigError:
        return (PREVIOUS, UNSURE)
    return (PREVIOUS, UNSURE) if name == served.arm else (PREVIOUS, name, UNSURE)


def _known(fallbacks: Sequence[str], config: Config) -> list[str]:
    """The fallbacks without `unsure`, which is no model.

    Raises:
        ConfigError: a name is unknown, or `unsure` is not the last one.
    """
    if UNSURE in fallbacks[:-1]:
        raise ConfigError(f"fallbacks: '{UNSURE}' must be the last one, since no model answers after it")
    names = [name for name in fallbacks if name != UNSURE]
    for name in names:
        if name != PREVIOUS and name not in config.arms:
            raise ConfigError(f"fallbacks: '{name}' is not one of {PREVIOUS}, {', '.join(config.arms)}, {UNSURE}")
    return names
