"""A hard cap on spending: the highest cost of a request is reserved before it is sent, its real cost booked after.

One cap applies to one run, to all jobs of a sweep in total, or to all steps of a retraining in total, whichever
processes run them. What a killed process reserved stays booked, because nobody knows whether the provider did the work.
"""

import json
import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from reviewtune.errors import BudgetError
from reviewtune.providers.answer_cache import AnswerStore

SWEEP = "REVIEWTUNE_SWEEP_PARENT"  # variable with the sweep's run id, which the sweep sets for its jobs
RETRAINING = "REVIEWTUNE_RETRAINING"  # variable with the name of the retraining that this process works for
ROUNDING = 1e-9  # USD
RUN_PREFIX = "run-"  # of a scope that ends with its process


def scope() -> str:
    """What shares the cap: the sweep or the retraining that this process works for, or else this process."""
    return os.environ.get(SWEEP) or os.environ.get(RETRAINING) or _this_process()


@contextmanager
def shared(name: str) -> Iterator[None]:
    """Let this process, and those that it starts in the block, share the cap of the retraining with this name.

    A later process with the same name continues with what was spent.
    """
    before = os.environ.get(RETRAINING)
    os.environ[RETRAINING] = f"{RUN_PREFIX}{name}"
    try:
        yield
    finally:
        os.environ.pop(RETRAINING)
        if before is not None:
            os.environ[RETRAINING] = before


def join(scope: str) -> None:
    """Let this process share the cap of another one from now on, also on another machine with a borrowed cache.

    Args:
        scope: what `scope` returned there.
    """
    os.environ[RETRAINING] = scope


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
    store.change("DELETE FROM spending WHERE scope = ?", [(scope,) for scope in scopes])


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
        if not self._book(usd, most=self.limit + ROUNDING):
            raise BudgetError(
                f"evaluation.budget_usd is {self.limit:g} USD: {self.spent:.6f} are spent or reserved, the next "
                f"request may cost {usd:.6f}; nothing more was sent and every answer so far is kept: raise the budget "
                "and run the same command again"
            )

    def settle(self, set_aside: float, paid: float) -> None:
        """Replace a reserved amount by what was really paid."""
        if self.limit is None or set_aside == paid:
            return
        self._book(paid - set_aside, most=math.inf)

    def _book(self, usd: float, *, most: float) -> bool:
        """Book an amount unless the sum would exceed `most`; one statement, so that others cannot book in between."""
        statement = """INSERT INTO spending SELECT :scope, :usd, :now
                       WHERE :usd + COALESCE((SELECT usd FROM spending WHERE scope = :scope), 0) <= :most
                       ON CONFLICT (scope) DO UPDATE SET usd = usd + excluded.usd, changed_at = excluded.changed_at"""
        values = {"scope": self.scope, "usd": usd, "now": time.time(), "most": most}
        return self.store.change(statement, [values]) > 0
