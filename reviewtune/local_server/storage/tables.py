"""The account's tables, in an SQLite database: it survives kill -9 and needs no separate service."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import JSON, URL, Connection, UniqueConstraint, create_engine, event, inspect
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from reviewtune.errors import ProviderError

BUSY_MS = 20_000  # milliseconds to wait for another writer


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON, dict[str, str]: JSON, list[str]: JSON}  # noqa: RUF012


class Row(Base):
    """Something that the API lists: `seq` is its fixed place in the order, `id` the name that clients see."""

    __abstract__ = True

    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[int]


class File(Row):
    """An uploaded or generated file; its content is on disk."""

    __tablename__ = "files"

    bytes: Mapped[int]
    sha256: Mapped[str]
    filename: Mapped[str]
    purpose: Mapped[str]
    expires_at: Mapped[int | None]


class Job(Row):
    """A fine-tuning job."""

    __tablename__ = "jobs"

    status: Mapped[str]
    content_key: Mapped[str] = mapped_column(index=True)
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    request_sha256: Mapped[str]
    model: Mapped[str]
    output_model: Mapped[str]  # the fine-tune's name, known from the start, shown when it exists
    training_file: Mapped[str]
    validation_file: Mapped[str | None]
    suffix: Mapped[str | None]
    seed: Mapped[int]
    hyperparameters: Mapped[dict[str, Any]]
    labels: Mapped[dict[str, str] | None]  # the API's `metadata`, a name that SQLAlchemy reserves
    finished_at: Mapped[int | None]
    estimated_finish: Mapped[int | None]
    trained_tokens: Mapped[int | None]
    result_files: Mapped[list[str]]
    error: Mapped[dict[str, Any] | None]
    deaths: Mapped[int] = mapped_column(default=0)  # number of trainers that ended without a result


class Event(Row):
    """`key` identifies the event within its job, so that a trainer that starts again reports nothing twice."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("job_id", "key"),)

    job_id: Mapped[str]
    key: Mapped[str]
    level: Mapped[str]
    message: Mapped[str]
    type: Mapped[str]
    data: Mapped[dict[str, Any]]


class Checkpoint(Row):
    """A job's model at the end of an epoch."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)

    job_id: Mapped[str]
    step: Mapped[int]
    model: Mapped[str]
    metrics: Mapped[dict[str, Any]]


class Model(Row):
    """A fine-tune or one of its checkpoints; `id` is its name."""

    __tablename__ = "models"

    base: Mapped[str]  # the base model that it was first trained from
    folder: Mapped[str]  # relative to the account's models/
    job_id: Mapped[str] = mapped_column(index=True)


class Batch(Row):
    """A batch; its lines are on disk."""

    __tablename__ = "batches"

    status: Mapped[str]
    endpoint: Mapped[str]
    model: Mapped[str | None]
    input_file_id: Mapped[str]
    output_file_id: Mapped[str | None]
    error_file_id: Mapped[str | None]
    output_lifetime: Mapped[int | None]
    labels: Mapped[dict[str, str] | None]
    times: Mapped[dict[str, Any]]  # in_progress_at, completed_at, ...
    counts: Mapped[dict[str, Any]]
    usage: Mapped[dict[str, Any] | None]
    errors: Mapped[dict[str, Any] | None]


class StoredResponse(Row):
    """A response with the conversation before it."""

    __tablename__ = "responses"

    body: Mapped[dict[str, Any]]
    input: Mapped[dict[str, Any]]  # {"items": [...]}


class Database:
    """Transactions on the tables.

    Readers run in parallel. A writer takes its lock at the start, so it never fails midway.

    Raises:
        ProviderError: the file is not a database of this version.
    """

    def __init__(self, path: Path) -> None:
        self._readers = create_engine(_url(path), max_overflow=40, hide_parameters=True)
        event.listen(self._readers, "connect", _configure)
        self._writers = self._readers.execution_options(immediate=True)
        event.listen(self._readers, "begin", _begin)
        try:
            with self.writing() as session:
                Base.metadata.create_all(session.connection())
                _refuse_other_version(session.connection(), path)
        except DatabaseError as error:
            remedy = "restore it from a copy, or use another folder (--data-dir, REVIEWTUNE_HOME)"
            raise ProviderError(f"{path} cannot be used as the account's database ({error.orig}); {remedy}") from error

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """Open an existing database without creating or changing anything; a server may use it at the same time.

        Raises:
            ProviderError: the file is missing, or is not a database of this version.
        """
        database = cls.__new__(cls)
        address = f"{path.resolve().as_uri()}?mode=ro"
        database._readers = create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(address, uri=True, timeout=BUSY_MS / 1000), poolclass=NullPool
        )
        try:
            with database.reading() as session:
                _refuse_other_version(session.connection(), path)
        except DatabaseError as error:
            raise ProviderError(f"{path} cannot be read as the account's database ({error.orig})") from error
        return database

    def reading(self) -> Session:
        """A transaction that only reads."""
        return Session(self._readers, expire_on_commit=False)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that writes; committed at the end, rolled back after an exception."""
        with Session(self._writers, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self._readers.dispose()


def _url(path: Path) -> URL:
    """The address of a database file; its path may contain characters that mean something in a URL, such as ? and %."""
    return URL.create("sqlite", database=str(path))


def _configure(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # sqlite3 would start transactions late and implicitly; `_begin` does it instead
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _refuse_other_version(connection: Connection, path: Path) -> None:
    """Fail at the start, and not in a request, if a table lacks a column.

    Raises:
        ProviderError: the database was written by another version.
    """
    known = set(inspect(connection).get_table_names())  # of a copy that is only read, later tables may be missing
    for table in [table for table in Base.metadata.sorted_tables if table.name in known]:
        missing = set(table.columns.keys()) - {column["name"] for column in inspect(connection).get_columns(table.name)}
        if missing:
            fault = f"{path} was written by another version: its table {table.name} has no {', '.join(sorted(missing))}"
            raise ProviderError(f"{fault}; use that version, or another folder (--data-dir, REVIEWTUNE_HOME)")


def now() -> int:
    """Seconds since the epoch."""
    return int(time.time())
