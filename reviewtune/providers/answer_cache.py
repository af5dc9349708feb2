"""The cache of answers: one SQLite file for all projects and processes of a user, so that nothing is paid for twice.

An answer is on disk as soon as it arrives, so a run that was killed repeats only the requests that were running. The
file holds the key (a hash), the model's name and the answer, never the review. It also holds the running batches
(batch_api.py) and the spending of runs and sweeps with a budget (budget.py).
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from reviewtune.core.user_dirs import cache_folder
from reviewtune.errors import CacheError
from reviewtune.providers.completion import Answer, from_json, to_json

Values = tuple[object, ...] | dict[str, object]
"""Of the parameters of a statement, in order or by name."""
NAME = "answers.db"
BUSY_SECONDS = 60.0  # how long to wait while another process writes
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, answer TEXT NOT NULL, used_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    identity TEXT PRIMARY KEY, address TEXT NOT NULL, batch_id TEXT, keys TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    scope TEXT PRIMARY KEY, usd REAL NOT NULL, changed_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shared_names (
    name TEXT PRIMARY KEY, address TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class ModelShare:
    """The number and size of one model's answers; `oldest` and `newest` are times of last use in Unix seconds."""

    model: str
    answers: int
    bytes: int
    oldest: float
    newest: float


def default_path() -> Path:
    return cache_folder() / NAME


class AnswerStore:
    """The open cache: `with open_store() as store:`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, written completely or not at all; other processes wait."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return self._connection.execute(query, values).fetchall()

    def change(self, statement: str, rows: Sequence[Values]) -> int:
        """Run the statement for each of the rows in one transaction; returns how many rows of the file it changed."""
        with self.writing() as connection:
            return connection.executemany(statement, rows).rowcount

    def key_address(self, address: str, *, shared_name: str | None) -> str:
        """The address in the keys of a provider's answers.

        Release 0.1.0 kept the answers of all endpoints of a kind under one name. The first endpoint that asks owns that
        name from then on, so that its answers are not paid for again; others never get them.
        """
        if shared_name is None:
            return address
        self.change("INSERT OR IGNORE INTO shared_names VALUES (?, ?)", [(shared_name, address)])
        owner = self.rows("SELECT address FROM shared_names WHERE name = ?", shared_name)[0][0]
        return shared_name if owner == address else address

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The cached answers by key; they count as used now."""
        wanted = json.dumps(keys)
        query = "SELECT key, answer FROM answers WHERE key IN (SELECT value FROM json_each(?))"
        answers = {str(key): from_json(str(answer)) for key, answer in self.rows(query, wanted)}
        if answers:
            touch = "UPDATE answers SET used_at = ? WHERE key IN (SELECT value FROM json_each(?))"
            self.change(touch, [(time.time(), wanted)])
        return answers

    def keep(self, model: str, answers: Mapping[str, Answer]) -> None:
        """Add answers by key. A question keeps its first answer, even if another process adds one later."""
        rows = [(key, model, to_json(answer), time.time()) for key, answer in answers.items()]
        self.change("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", rows)

    def shares(self) -> list[ModelShare]:
        """The share of each model, the largest first."""
        query = """SELECT model, COUNT(*), SUM(LENGTH(key) + LENGTH(answer)), MIN(used_at), MAX(used_at)
                   FROM answers GROUP BY model ORDER BY 3 DESC, 1"""
        return [
            ModelShare(
                model=str(model),
                answers=int(str(answers)),
                bytes=int(str(size)),
                oldest=float(str(oldest)),
                newest=float(str(newest)),
            )
            for model, answers, size, oldest, newest in self.rows(query)
        ]

    def prune(self, *, unused_since: float | None = None, model: str | None = None) -> int:
        """Delete answers; the file shrinks unless another process is using it.

        Args:
            unused_since: only answers that were last used before this time (Unix seconds); None is any time.
            model: only answers of this model; None is any model.

        Returns:
            The number of deleted answers.
        """
        query = "DELETE FROM answers WHERE used_at < ? AND (? IS NULL OR model = ?)"
        with self.writing() as connection:
            before = float("inf") if unused_since is None else unused_since
            count = connection.execute(query, (before, model, model)).rowcount
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return count


class LentStore(AnswerStore):
    """The cache that this process owns, for processes on other machines: they call `rows` and `change` from afar.

    Args:
        path: of the file.

    Raises:
        CacheError: its folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _connect(path))


class BorrowedStore(AnswerStore):
    """The cache of another machine.

    Args:
        path: of the file, on that machine.
        owner: a `LentStore`, or what passes its calls on.
    """

    def __init__(self, path: Path, owner: LentStore) -> None:
        self.path, self._owner = path, owner

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return self._owner.rows(query, *values)

    def change(self, statement: str, rows: Sequence[Values]) -> int:
        return self._owner.change(statement, rows)


_borrowed: BorrowedStore | None = None


def borrow(store: BorrowedStore) -> None:
    """Let this process use the cache of another machine from now on."""
    global _borrowed
    _borrowed = store


class BatchNote(NamedTuple):
    """A running batch, noted so that the next run finds it.

    Args:
        identity: hash of its questions.
        batch_id: at the provider; None until the provider confirmed the batch.
        keys: of its questions.
    """

    identity: str
    batch_id: str | None
    keys: frozenset[str]


class BatchNotes:
    """The notes on the batches at one provider's address."""

    def __init__(self, store: AnswerStore, address: str) -> None:
        self._store, self._address = store, address

    def __iter__(self) -> Iterator[BatchNote]:
        query = "SELECT identity, batch_id, keys FROM batches WHERE address = ?"
        for identity, batch_id, keys in self._store.rows(query, self._address):
            known_id = None if batch_id is None else str(batch_id)
            yield BatchNote(str(identity), batch_id=known_id, keys=frozenset(json.loads(str(keys))))

    def write(self, note: BatchNote) -> None:
        row = (note.identity, self._address, note.batch_id, json.dumps(sorted(note.keys)))
        self._store.change("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", [row])

    def forget(self, note: BatchNote) -> None:
        self._store.change("DELETE FROM batches WHERE identity = ?", [(note.identity,)])


@contextmanager
def open_store(path: Path | None = None) -> Iterator[AnswerStore]:
    """The user's cache of answers, created if there is none, or the borrowed one of another machine.

    Raises:
        CacheError: the file is damaged, or its folder cannot be written.
    """
    if _borrowed is not None and path is None:
        yield _borrowed
        return
    path = path or default_path()
    try:
        with closing(_connect(path)) as connection:
            yield AnswerStore(path, connection)
    except sqlite3.Error as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> CacheError:
    return CacheError(
        f"{path}: {error}; free disk space, make the file writable, set REVIEWTUNE_HOME to another folder, or delete "
        "the file: its questions are then asked again"
    )


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file with write-ahead logging: readers never wait, and a killed process leaves a valid file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # SQLite does not wait for other processes when it changes the journal mode
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(SCHEMA)
    except OSError as error:
        raise _unusable(path, error) from error
    return connection
