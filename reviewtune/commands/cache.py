"""`reviewtune cache stats` and `reviewtune cache prune`: the store of answers, for people."""

import time
from datetime import datetime

from reviewtune.errors import CacheError
from reviewtune.providers.answer_cache import AnswerStore, open_store

DAY = 24 * 3600


def show_stats() -> None:
    """A table by model on the terminal."""
    from rich.console import Console
    from rich.table import Column, Table

    with open_store() as store:
        whole = Column("model", overflow="fold")  # its end tells checkpoints apart
        table = Table(whole, "answers", "MB", "last used", title=f"{store.path} ({_size(store):.1f} MB)")
        for share in store.shares():
            used = f"{datetime.fromtimestamp(share.oldest):%Y-%m-%d} to {datetime.fromtimestamp(share.newest):%Y-%m-%d}"
            table.add_row(share.model, f"{share.answers:,}", f"{share.bytes / 1e6:.2f}", used)
        Console().print(table if table.row_count else f"{store.path}: no answers yet")


def prune_answers(unused_for: int | None, model: str | None, *, everything: bool) -> None:
    """Delete answers not used for so many days, of this model, or all.

    Raises:
        CacheError: nothing says which.
    """
    if unused_for is None and model is None and not everything:
        raise CacheError("which answers? Name --unused-for DAYS, --model NAME, both, or --all")
    with open_store() as store:
        before = _size(store)
        count = store.prune(unused_since=None if unused_for is None else time.time() - unused_for * DAY, model=model)
        print(f"{count:,} answers deleted, {before - _size(store):.1f} MB freed ({store.path})")


def _size(store: AnswerStore) -> float:
    """Megabytes of the file and of the log that SQLite has not worked into it yet."""
    return sum(file.stat().st_size for file in store.path.parent.glob(f"{store.path.name}*")) / 1e6
