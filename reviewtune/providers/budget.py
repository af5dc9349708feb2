"""A hard cap on spending: each request's highest price is set aside before it is sent, its real price booked after.

One cap counts for one run, or for all jobs of a sweep together, whichever processes run them. What was set aside by a
process that was killed stays spent: nobody knows whether the provider did the work.
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

SWEEP = "REVIEWTUNE_SWEEP_PARENT"  # the sweep's run id, which sweeping.py hands to each job
ROUNDING = 1e-9  # USD
OF_A_RUN = "run-"  # a scope that ends with its process


def scope() -> str:
    """What shares one cap: the sweep that this process works for, or else all that this process asks."""
    return os.environ.get(SWEEP) or _this_process()


@cache
def _this_process() -> str:
    return f"{OF_A_RUN}{uuid.uuid4().hex}"


def settled(store: AnswerStore, sweeps: Sequence[str], *, unchanged_since: float) -> list[str]:
    """Scopes that nobody asks for any more: of these sweeps, and of single runs that spent nothing since (Unix s)."""
    query = """SELECT scope FROM spending WHERE changed_at < ? AND scope LIKE ?
               OR scope IN (SELECT value FROM json_each(?)) ORDER BY scope"""
    return [str(row[0]) for row in store.rows(query, unchanged_since, f"{OF_A_RUN}%", json.dumps(sweeps))]


def forget(store: AnswerStore, scopes: Sequence[str]) -> None:
    with store.writing() as connection:
        connection.executemany("DELETE FROM spending WHERE scope = ?", [(scope,) for scope in scopes])


@dataclass(frozen=True)
class Budget:
    """`limit` in USD; None: no cap, and nothing is booked."""

    store: AnswerStore
    limit: float | None
    scope: str

    @property
    def spent(self) -> float:
        """USD, what is set aside included."""
        rows = self.store.rows("SELECT usd FROM spending WHERE scope = ?", self.scope)
        return float(str(rows[0][0])) if rows else 0.0

    def set_aside(self, usd: float) -> None:
        """Take an amount out of the budget before it is spent.

        Raises:
            BudgetError: it does not fit any more.
        """
        if self.limit is None or usd == 0:
            return
        with self.store.writing() as connection:
            spent = self.spent
            if spent + usd > self.limit + ROUNDING:
                raise BudgetError(
                    f"evaluation.budget_usd is {self.limit:g} USD: {spent:.6f} are spent or set aside, what comes next "
                    f"may cost {usd:.6f}; nothing more was sent and every answer so far is kept: raise the budget and "
                    "run the same command again"
                )
            self._book(connection, usd)

    def settle(self, set_aside: float, paid: float) -> None:
        """Book what an amount set aside really cost."""
        if self.limit is None or set_aside == paid:
            return
        with self.store.writing() as connection:
            self._book(connection, paid - set_aside)

    def _book(self, connection: sqlite3.Connection, usd: float) -> None:
        query = """INSERT INTO spending VALUES (?, ?, ?)
                   ON CONFLICT (scope) DO UPDATE SET usd = usd + excluded.usd, changed_at = excluded.changed_at"""
        connection.execute(query, (self.scope, usd, time.time()))
