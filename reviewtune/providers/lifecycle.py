"""What ends at a provider, when, and what to say about it: pure rules on the facts of conf/lifecycle, without requests.

The light client imports this module: it needs no package that an application does not have.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date as Day  # noqa: N812 - `date` is the name of a field
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from reviewtune.core import clock
from reviewtune.core.config.lifecycle import LifecycleConfig, LifecycleFact
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.formatting import counted
from reviewtune.core.loopback import is_loopback
from reviewtune.providers.address import address_of

WAY_OUT = "choose another provider, such as provider=local; `reviewtune lifecycle` and docs/operations.md say more"
SNAPSHOT = r"-(\d{4}-\d{2}-\d{2}|\d{4}|latest)"  # what follows a family's name in the names of its snapshots
HOSTS = (("openai.com", "openai"), ("azure.com", "azure"))  # hosts of a service, whatever the kind of provider

EndingEvent = Literal["shutdown", "last_training_day"]

_said: set[str] = set()


@dataclass(frozen=True)
class Ending:
    """An end that is known.

    Args:
        event: shutdown: no answers from this day on; last_training_day: no new job after this day.
        date: the day.
        source: who says so.
        not_before: it may be later.
    """

    event: EndingEvent
    date: Day
    source: str
    not_before: bool = False

    def days_left(self, today: Day) -> int:
        """Days until then, negative afterwards."""
        return (self.date - today).days

    def is_over(self, today: Day) -> bool:
        """Whether it is certain that it has happened."""
        first = self.date if self.event == "shutdown" else self.date + timedelta(days=1)
        return today >= first and not self.not_before

    def in_words(self, today: Day) -> str:
        """Such as `stops answering on 2027-01-14, in 46 days`."""
        days = self.days_left(today)
        if self.not_before and days <= 0:
            return f"{_PERHAPS[self.event]} since {self.date}"
        earliest = " at the earliest" if self.not_before else ""
        if self.is_over(today):
            since = f", {counted(-days, 'day')} ago" if days else ", today"
            return f"{_PAST[self.event]} {self.date}{since}"
        left = f"in {counted(days, 'day')}" if days else "today"
        return f"{_FUTURE[self.event]} {self.date}{earliest}, {left}"


_FUTURE = {"shutdown": "stops answering on", "last_training_day": "takes its last fine-tuning jobs on"}
_PAST = {"shutdown": "stopped answering on", "last_training_day": "took its last fine-tuning jobs on"}
_PERHAPS = {"shutdown": "may have stopped answering", "last_training_day": "may have stopped taking fine-tuning jobs"}


def service_of(provider: ProviderConfig) -> str:
    """Whose facts apply: `local`, `openai`, `azure` or `compatible`.

    A server of this machine is not OpenAI or Azure, whatever the provider's kind; their hosts are, through a provider
    of kind compatible as well.
    """
    if provider.kind == "local":
        return "local"
    address = address_of(provider)
    if is_loopback(address):
        return "compatible"
    host = (urlsplit(address).hostname or "").lower()
    return next((name for end, name in HOSTS if host == end or host.endswith(f".{end}")), provider.kind)


def base_of(model: str) -> str:
    """The model that a fine-tune was made from, if its name says so; else the name itself.

    OpenAI's form is `ft:BASE:organisation:suffix:id`, Azure's `BASE.ft-id`.
    """
    parts = model.split(":")
    if parts[0] == "ft" and len(parts) > 1 and parts[1]:
        return parts[1]
    return model.partition(".ft-")[0] or model


def names_of(model: str, base: str) -> tuple[str, ...]:
    """The names that decide what ends for a fine-tune: its own, and its base model's if its own does not say it."""
    return (model,) if base_of(model) != model else (model, base)


def depends_on(model: str, name: str) -> bool:
    """Whether a model is of this family or snapshot, or a fine-tune of one.

    `gpt-4o` covers gpt-4o-2024-08-06 and its fine-tunes, but not gpt-4o-mini.
    """
    base = base_of(model).lower()
    return re.fullmatch(re.escape(name.lower()) + f"({SNAPSHOT})?", base) is not None


def applies(fact: LifecycleFact, provider: ProviderConfig, models: Iterable[str]) -> bool:
    """Whether a fact is about one of these models of a provider."""
    if fact.provider != service_of(provider):
        return False
    return fact.models == "all" or any(depends_on(model, name) for model in models for name in fact.models)


def endings_of(
    provider: ProviderConfig, models: Sequence[str], config: LifecycleConfig, live: Day | None = None
) -> tuple[Ending, ...]:
    """What ends for a model, the earliest first: one end of its training and one of its answers.

    Args:
        provider: who serves it.
        models: its names, as of `names_of`.
        config: the facts.
        live: the shutdown date that the provider itself reports, which counts more than the facts.
    """
    by_event: dict[str, Ending] = {}
    for fact in sorted(config.facts.values(), key=lambda fact: fact.date):
        if fact.event != "training_restricted" and applies(fact, provider, models):
            source = f"{fact.source} (read {fact.retrieved})"
            by_event.setdefault(fact.event, Ending(fact.event, fact.date, source, fact.not_before))
    if live is not None:
        by_event["shutdown"] = Ending("shutdown", live, f"provider {provider.kind}, asked now")
    return tuple(sorted(by_event.values(), key=lambda ending: ending.date))


def soon(endings: Iterable[Ending], config: LifecycleConfig, today: Day) -> tuple[Ending, ...]:
    """Those that come within `warn_days` days, or have come."""
    return tuple(ending for ending in endings if ending.days_left(today) <= config.warn_days)


def line_about(model: str, provider: ProviderConfig, endings: Iterable[Ending], today: Day) -> str:
    """One line: what ends, when, in how many days, what to do."""
    words = ", ".join(ending.in_words(today) for ending in endings)
    return f"{model} (provider {provider.kind}) {words}: {WAY_OUT}"


def warn(
    report: Callable[[str], object],
    provider: ProviderConfig,
    models: Sequence[str],
    config: LifecycleConfig,
    *,
    trains: bool,
    live: Day | None = None,
) -> None:
    """Report in one line what ends soon for a model; the same end is reported once per process.

    Args:
        report: receives the line.
        provider: who serves the model.
        models: its names, as of `names_of`.
        config: the facts.
        trains: whether jobs are to be created, so that the end of the training matters too.
        live: as in `endings_of`.
    """
    today = clock.today()
    known = [ending for ending in endings_of(provider, models, config, live) if trains or ending.event == "shutdown"]
    keys = {
        ending: f"{provider.kind} {models[0]} {ending.event} {ending.date}" for ending in soon(known, config, today)
    }
    if new := [ending for ending, key in keys.items() if key not in _said]:
        _said.update(keys.values())
        report(line_about(models[0], provider, new, today))


def forget_warnings() -> None:
    """Report all again, as in a new process."""
    _said.clear()


class EndingNotice:
    """Looks once a day whether a model ends soon, for an application that runs for months.

    Args:
        report: receives the line.
        provider: who serves the model.
        models: as in `warn`.
        config: the facts.
    """

    def __init__(
        self, report: Callable[[str], object], provider: ProviderConfig, models: Sequence[str], config: LifecycleConfig
    ) -> None:
        self._report, self._provider, self._models, self._config = report, provider, models, config
        self._looked: Day | None = None

    def __call__(self) -> None:
        today = clock.today()
        if today != self._looked:
            self._looked = today
            warn(self._report, self._provider, self._models, self._config, trains=False)
