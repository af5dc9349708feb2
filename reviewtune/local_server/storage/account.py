"""The account as routes and threads use it: its database, its folders, and the events that wake the threads."""

from dataclasses import dataclass, field
from threading import Event
from typing import Annotated

from fastapi import Depends, Request

from reviewtune.local_server.settings import Settings
from reviewtune.local_server.storage.tables import Database


@dataclass(frozen=True, slots=True)
class Account:
    """An open account.

    Attributes:
        settings: the server's settings, with the account's folders.
        database: the account's tables.
        jobs_changed: set when the scheduler has something to do.
        batches_changed: set when the batch runner has something to do.
    """

    settings: Settings
    database: Database
    jobs_changed: Event = field(default_factory=Event)
    batches_changed: Event = field(default_factory=Event)


def open_account(settings: Settings) -> Account:
    """Open the account in `settings.data_dir`, or create it.

    Raises:
        ProviderError: its database cannot be used.
    """
    for folder in (settings.files, settings.jobs, settings.models, settings.batches):
        folder.mkdir(parents=True, exist_ok=True)
    return Account(settings, Database(settings.data_dir / "account.db"))


def _of_request(request: Request) -> Account:
    account: Account = request.app.state.account
    return account


CurrentAccount = Annotated[Account, Depends(_of_request)]
