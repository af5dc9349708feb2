"""A hard cap on spending: the highest cost of a request is reserved before it is sent, its real cost booked after.

One cap applies to one run, or to all jobs of a sweep in total, whichever processes run them. What a killed process
reserved stays booked, because nobody knows whether the provider did the work.
"""

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from reviewtune.errors import BudgetError
from reviewtune.providers.answer_cache import AnswerStore

SWEEP = "REVIEWTUNE_SWEEP_PARENT"  # variable with the sweep's run id, which the sweep sets for its jobs
ROUNDING = 1e-9  # USD
RUN_PREFIX = "run-"  # of a scope that ends with its process


def scope() -> str:
    """What shares the cap: the sweep that this process works for, or else this process."""
    return os.environ.get(SWEEP) or _this_process()


@cache
def _this_process() -> str:
    return f"{RUN_PREFIX}{uuid.uuid4().hex}"


def settled(store: AnswerStore, sweeps: Sequence[str], *, unchanged_since: float) -> list[str]:
    """Scopes that are no longer needed.

    Args:
        store: the cache of answers, which holds the spending.
        sweeps: ids of sweeps that are no longer needed.
        unchanged_since: single runs that spent nothing since then (Unix seconds) have ended.
    """
    query = """SELECT scope FROM spending WHERE changed_at < ? AND scope LIKE ?
               OR scope IN (SELECT value FROM json_each(?)) ORDER BY scope"""
    return [str(row[0]) for row in store.rows(query, unchanged_since, f"{RUN_PREFIX}%", json.dumps(sweeps))]


def forget(store: AnswerStore, scopes: Sequence[str]) -> None:
    with store.writing() as connection:
        connection.executemany("DELETE FROM spending WHERE scope = ?", [(scope,) for scope in scopes])


@dataclass(frozen=True)
class Budget:
    """The spending of one scope. `limit` is in USD; None is no cap, and nothing is booked."""

    store: AnswerStore
    limit: float | None
    scope: str

    @property
    def spent(self) -> float:
        """USD, including what is reserved."""
        rows = self.store.rows("SELECT usd FROM spending WHERE scope = ?", self.scope)
        return float(str(rows[0][0])) if rows else 0.0

    def set_aside(self, usd: float) -> None:
        """Reserve an amount before it is spent.

        Raises:
            BudgetError: the amount exceeds what is left.
        """
        if self.limit is None or usd == 0:
            return
        with self.store.writing() as connection:
            spent = self.spent
            if spent + usd > self.limit + ROUNDING:
                raise BudgetError(
                    f"evaluation.budget_usd is {self.limit:g} USD: {spent:.6f} are spent or reserved, the next request "
                    f"may cost {usd:.6f}; nothing more was sent and every answer so far is kept: raise the budget and "
                    "run the same command again"
                )
            self._book(connection, usd)

    def settle(self, set_aside: float, paid: float) -> None:
        """Replace a reserved amount by what was really paid."""
        if self.limit is None or set_aside == paid:
            return
        with self.store.writing() as connection:
            self._book(connection, paid - set_aside)

    def _book(self, connection: sqlite3.Connection, usd: float) -> None:
        query = """INSERT INTO spending VALUES (?, ?, ?)
                   ON CONFLICT (scope) DO UPDATE SET usd = usd + excluded.usd, changed_at = excluded.changed_at"""
        connection.execute(query, (self.scope, usd, time.time()))
