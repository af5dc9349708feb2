"""The report of `reviewtune lifecycle`: what the project uses, when it ends, who says so, what could not be seen."""

from collections.abc import Callable, Iterable
from datetime import date as Day  # noqa: N812 - `date` is the name of a field
from typing import Literal

from pydantic import Field

from reviewtune.core import clock
from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.project import ProjectPaths
from reviewtune.core.result_file import ResultFile, ResultPart
from reviewtune.deployment.lifecycle.uses import Use, configured, in_registry, last_finetune, of_runs, trained
from reviewtune.errors import ReviewtuneError
from reviewtune.providers.address import address_of
from reviewtune.providers.lifecycle import Ending, applies, endings_of, service_of
from reviewtune.providers.shutdown_dates import ShutdownDates, read_shutdown_dates


class LifecycleRow(ResultPart):
    """A model, and one of its ends; a model that is not known to end has one row."""

    model: str = Field(description="name of the model, or how many fine-tunes of which base model")
    provider: str = Field(description="provider.kind")
    used_by: tuple[str, ...] = Field(description="what needs it")
    event: Literal["shutdown", "last_training_day"] | None = Field(
        description="shutdown: no answers from that day on; last_training_day: no new job after it; null: not known"
    )
    date: Day | None = Field(description="the day")
    not_before: bool = Field(description="the provider says only that it does not happen earlier")
    days_left: int | None = Field(description="days until then, negative afterwards")
    source: str | None = Field(description="who says so, and when that was read")

    @property
    def order(self) -> tuple[Day, str]:
        """The next end first, what is not known to end last."""
        return self.date or Day.max, self.model


class LifecycleReport(ResultFile):
    """What ends; printed, not stored, because it depends on the day."""

    today: Day = Field(description="the day of the report, in UTC")
    warn_days: int = Field(description="lifecycle.warn_days")
    rows: tuple[LifecycleRow, ...] = Field(description="by date")
    notes: tuple[str, ...] = Field(description="restrictions that concern some customers")
    missing: tuple[str, ...] = Field(description="what could not be seen, and why")
    unknown_uses: bool = Field(
        description="whether the last fine-tune, the champion or the stored runs are in `missing`: then an end may be "
        "missing in `rows`"
    )

    @property
    def ends_soon(self) -> tuple[LifecycleRow, ...]:
        """The rows that end within `warn_days` days, or have ended."""
        return tuple(row for row in self.rows if row.days_left is not None and row.days_left <= self.warn_days)


def report(config: Config, paths: ProjectPaths) -> LifecycleReport:
    """Look at the configuration, the last fine-tune, the registry and the runs, and ask the providers.

    What cannot be seen is named in `missing`; the rest is there.
    """
    missing: list[str] = []
    uses = [
        *configured(config),
        *_attempt("the last fine-tune", lambda: last_finetune(config, paths), missing),
        *_attempt("champion, previous and stored runs", lambda: _in_store(config), missing),
    ]
    unknown_uses = bool(missing)
    dates = _ask(uses, missing)
    today = clock.today()
    rows = [row for group in _grouped(uses) for row in _rows(group, config, dates[_place(group[0].provider)], today)]
    return LifecycleReport(
        today=today,
        warn_days=config.lifecycle.warn_days,
        rows=tuple(sorted(rows, key=lambda row: row.order)),
        notes=tuple(_notes(uses, config)),
        missing=tuple(missing),
        unknown_uses=unknown_uses,
    )


def _in_store(config: Config) -> list[Use]:
    """What MLflow knows. A server that does not answer is asked once, since that takes a while."""
    runs = trained(config)
    return [*in_registry(config, runs), *of_runs(config, runs)]


def _attempt(what: str, look: Callable[[], list[Use]], missing: list[str]) -> list[Use]:
    try:
        return look()
    except ReviewtuneError as error:
        missing.append(f"{what}: {error}")
        return []


def _place(provider: ProviderConfig) -> tuple[str, str]:
    return provider.kind, address_of(provider)


def _ask(uses: Iterable[Use], missing: list[str]) -> dict[tuple[str, str], ShutdownDates]:
    """What each provider says, by its place. Each is asked once."""
    names: dict[tuple[str, str], set[str]] = {}
    providers = {_place(use.provider): use.provider for use in uses}
    for use in uses:
        names.setdefault(_place(use.provider), set()).update(use.names)
    dates = {place: read_shutdown_dates(one, sorted(names[place])) for place, one in providers.items()}
    for (kind, _), found in dates.items():
        if found.fault:
            missing.append(f"shutdown dates of provider {kind}: {found.fault}")
    return dates


def _grouped(uses: Iterable[Use]) -> list[list[Use]]:
    """Uses of the same model at the same provider."""
    groups: dict[tuple[str, str, str], list[Use]] = {}
    for use in uses:
        groups.setdefault((*_place(use.provider), use.model), []).append(use)
    return list(groups.values())


def _rows(group: list[Use], config: Config, dates: ShutdownDates, today: Day) -> list[LifecycleRow]:
    first, trains = group[0], any(use.trains for use in group)
    live = dates.of(first.names)
    endings = endings_of(first.provider, first.names, config.lifecycle, live)
    matters = [ending for ending in endings if trains or ending.event == "shutdown"]
    return [_row(group, ending, today) for ending in matters] or [_row(group, None, today)]


def _row(group: list[Use], ending: Ending | None, today: Day) -> LifecycleRow:
    return LifecycleRow(
        model=group[0].model,
        provider=group[0].provider.kind,
        used_by=tuple(dict.fromkeys(use.by for use in group)),
        event=ending.event if ending else None,
        date=ending.date if ending else None,
        not_before=ending.not_before if ending else False,
        days_left=ending.days_left(today) if ending else None,
        source=ending.source if ending else None,
    )


def _notes(uses: list[Use], config: Config) -> Iterable[str]:
    """Restrictions of the training at providers that this project trains at."""
    training = [use for use in uses if use.trains]
    for fact in config.lifecycle.facts.values():
        if fact.event == "training_restricted" and any(applies(fact, use.provider, use.names) for use in training):
            since = f"{service_of(training[0].provider)}, since {fact.date}"
            yield f"{since}: {fact.note or 'jobs are restricted'} ({fact.source}, read {fact.retrieved})"
