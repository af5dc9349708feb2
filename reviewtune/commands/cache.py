"""The commands `reviewtune cache stats` and `reviewtune cache prune`: the cache of answers."""

import time
from datetime import datetime

from reviewtune.core.formatting import counted
from reviewtune.errors import CacheError
from reviewtune.providers.answer_cache import AnswerStore, open_store

DAY = 24 * 3600


def show_stats() -> None:
    """Print a table with one row per model."""
    from rich.box import HEAVY_HEAD
    from rich.console import Console

    from reviewtune.core.terminal.tables import FittedTable

    with open_store() as store:
        title = f"{store.path} ({_size(store):.1f} MB)"
        table = FittedTable("model", "answers", "MB", "last used", title=title, box=HEAVY_HEAD)
        for share in store.shares():
            used = f"{datetime.fromtimestamp(share.oldest):%Y-%m-%d} to {datetime.fromtimestamp(share.newest):%Y-%m-%d}"
            table.add_row(share.model, f"{share.answers:,}", f"{share.bytes / 1e6:.2f}", used)
        Console().print(table if table.row_count else f"{store.path}: no answers yet")


def prune_answers(unused_for: int | None, model: str | None, *, everything: bool) -> None:
    """Delete the answers that match all criteria given.

    Args:
        unused_for: days since the last use.
        model: the model that answered.
        everything: delete all answers.

    Raises:
        CacheError: no criterion was given.
    """
    if unused_for is None and model is None and not everything:
        raise CacheError("which answers? Give --unused-for DAYS, --model NAME, both, or --all")
    with open_store() as store:
        before = _size(store)
        count = store.prune(unused_since=None if unused_for is None else time.time() - unused_for * DAY, model=model)
        print(f"{counted(count, 'answer')} deleted, {before - _size(store):.1f} MB freed ({store.path})")


def _size(store: AnswerStore) -> float:
    """Megabytes of the database and its log files."""
    return sum(file.stat().st_size for file in store.path.parent.glob(f"{store.path.name}*")) / 1e6
