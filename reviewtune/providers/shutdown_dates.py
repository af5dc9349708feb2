"""Ask a provider when its models shut down: `shutdown_date` of GET /v1/models, or of GET /v1/models/ID.

That is news, not a need: whatever goes wrong is a note, and no request is repeated.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime

import openai

from reviewtune.core.config.provider import ProviderConfig
from reviewtune.errors import ReviewtuneError
from reviewtune.providers.client import connect
from reviewtune.providers.lifecycle import base_of
from reviewtune.providers.responses.provider_errors import ABSENT

SECONDS = 10.0  # how long an answer may take
EARLIEST, LATEST = date(2020, 1, 1), date(2100, 1, 1)  # any other date is garbled
SECONDS_DIGITS = (9, 10, 11)  # of Unix seconds between these dates


@dataclass(frozen=True)
class ShutdownDates:
    """What a provider reports.

    Args:
        by_model: the dates, by the model's name at the provider.
        fault: why it could not be asked; None: it answered.
    """

    by_model: Mapping[str, date]
    fault: str | None = None

    def of(self, models: Sequence[str]) -> date | None:
        """The first date on which one of these models, or the base model of one, shuts down."""
        names = {name for model in models for name in (model, base_of(model))}
        return min((day for name, day in self.by_model.items() if name in names), default=None)


def read_shutdown_dates(provider: ProviderConfig, models: Sequence[str]) -> ShutdownDates:
    """Ask the provider. The local one is not asked: its models are files on this machine.

    Args:
        provider: the provider.
        models: asked for one by one only if the server has no list of its models.
    """
    if provider.kind == "local":
        return ShutdownDates({})
    hasty = provider.model_copy(update={"max_retries": 0, "timeout": min(provider.timeout, SECONDS)})
    try:
        with connect(hasty) as client:
            return ShutdownDates(dict(_dates(client, models)))
    except ReviewtuneError as error:
        return ShutdownDates({}, fault=str(error))


def date_in(value: object) -> date | None:
    """The day that a server means by Unix seconds or an ISO date, with a time or without; None if it is garbled."""
    text = str(value).strip()
    with suppress(ValueError, OverflowError, OSError):
        if text.isdecimal() and len(text) in SECONDS_DIGITS:
            moment = datetime.fromtimestamp(int(text), UTC)
        else:
            moment = datetime.fromisoformat(text)
        day = (moment.astimezone(UTC) if moment.tzinfo else moment).date()
        return day if EARLIEST <= day < LATEST else None
    return None


def _dates(client: openai.OpenAI, models: Sequence[str]) -> Iterator[tuple[str, date]]:
    for model in _listed(client, models):
        if (day := date_in(model.shutdown_date)) is not None:
            yield model.id, day


def _listed(client: openai.OpenAI, models: Sequence[str]) -> Iterator[openai.types.Model]:
    try:
        yield from client.models.list()
    except openai.APIStatusError as error:
        if error.status_code not in ABSENT:
            raise
        for name in models:
            with suppress(openai.NotFoundError):
                yield client.models.retrieve(name)
