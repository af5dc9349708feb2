"""What a handler needs of the account: its tables, its folders, and the bells of the threads that work on it."""

from dataclasses import dataclass, field
from threading import Event
from typing import Annotated

from fastapi import Depends, Request

from reviewtune.local_server.settings import Settings
from reviewtune.local_server.storage.tables import Database


@dataclass(frozen=True, slots=True)
class Account:
    settings: Settings
    database: Database
    jobs_changed: Event = field(default_factory=Event)
    batches_changed: Event = field(default_factory=Event)


def open_account(settings: Settings) -> Account:
    for folder in (settings.files, settings.jobs, settings.models, settings.batches):
        folder.mkdir(parents=True, exist_ok=True)
    return Account(settings, Database(settings.data_dir / "account.db"))


def _of_request(request: Request) -> Account:
    account: Account = request.app.state.account
    return account


CurrentAccount = Annotated[Account, Depends(_of_request)]
