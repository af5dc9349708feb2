"""Only one process at a time changes who is champion, on this machine or on a shared MLflow server.

In the project's own store a lock file does it, which the operating system releases when a process dies. MLflow's server
has no locks and no conditional writes, but names of registered models are unique in its database: who creates the model
NAME.lock holds the lock, and deletes it afterwards. A killed process leaves it behind. Others then remove it: at once
on the same machine or in the same container, elsewhere after they have seen the same holder for ABANDONED_SECONDS.
Changes take less than a second. A holder that slept for so long finds out with `confirm`, before it changes who is
champion.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from filelock import FileLock, Timeout

from reviewtune.errors import TrackingError
from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.process import is_of_this_machine, is_running, this_process

if TYPE_CHECKING:
    from reviewtune.core.config.config import TrackingConfig

FILE = "registry.lock"
HOLDER = "holder"
WAIT_SECONDS, ABANDONED_SECONDS, PAUSE_SECONDS = 60, 30, 0.1
REFUSED_SECONDS = 5  # a lock that nobody has and that cannot be created: the server refuses for another reason


class Held(NamedTuple):
    """The lock, as long as the block that got it runs. `confirm` raises TrackingError if somebody took it away."""

    confirm: Callable[[], None]


@contextmanager
def alone_with(settings: "TrackingConfig", name: str) -> Iterator[Held]:
    """Hold the lock of a registered model.

    Raises:
        TrackingError: somebody else holds it, or the registry does not answer.
    """
    store = tracking_store.open_store(settings)
    with _on_server(store, f"{name}.lock") if settings.uri else _in_own_store(name) as held:
        yield held


@contextmanager
def _in_own_store(name: str) -> Iterator[Held]:
    try:
        with FileLock(tracking_store.own_folder() / FILE, timeout=WAIT_SECONDS):
            yield Held(confirm=lambda: None)
    except Timeout as error:
        raise TrackingError(_busy(name)) from error


@contextmanager
def _on_server(store: tracking_store.Store, lock: str) -> Iterator[Held]:
    ours = f"{this_process()}:{uuid4().hex}"
    _acquire(store, lock, ours)
    try:
        yield Held(confirm=lambda: _confirm(store, lock, ours))
    finally:
        with suppress(TrackingError):  # others take an abandoned lock
            if _holder(store, lock) == ours:
                store.delete_registered_model(lock)


def _acquire(store: tracking_store.Store, lock: str, ours: str) -> None:
    started = since = time.monotonic()
    seen: str | None = ""
    while refusal := _refusal(store, lock, ours):
        holder, now = _holder(store, lock), time.monotonic()
        if holder != seen:
            seen, since = holder, now
        if holder is None and now - since > REFUSED_SECONDS:
            raise refusal
        if holder is not None and (_is_dead(holder) or now - since > ABANDONED_SECONDS):
            _remove(store, lock, holder)
        elif now - started > WAIT_SECONDS:
            raise TrackingError(_busy(lock.removesuffix(".lock")))
        else:
            time.sleep(PAUSE_SECONDS)


def _refusal(store: tracking_store.Store, lock: str, ours: str) -> TrackingError | None:
    """Try to create the lock; returns None, or why not: most often because it exists."""
    try:
        store.create_registered_model(lock, {HOLDER: ours}, "held for a moment while somebody changes the champion")
    except TrackingError as error:
        # It is ours if MLflow repeated a request whose answer was lost.
        return None if _holder(store, lock) == ours else error
    return None


def _holder(store: tracking_store.Store, lock: str) -> str | None:
    model = store.get_model_or_none(lock)
    return None if model is None else str(model.tags.get(HOLDER, ""))


def _remove(store: tracking_store.Store, lock: str, holder: str) -> None:
    """Remove an abandoned lock, unless somebody was faster."""
    with suppress(TrackingError):
        if _holder(store, lock) == holder:
            store.delete_registered_model(lock)


def _confirm(store: tracking_store.Store, lock: str, ours: str) -> None:
    if _holder(store, lock) != ours:
        raise TrackingError(f"{lock.removesuffix('.lock')}: this took too long, and somebody else took over; run again")


def _is_dead(holder: str) -> bool:
    process = holder.rpartition(":")[0]
    return is_of_this_machine(process) and not is_running(process)


def _busy(name: str) -> str:
    return (
        f"{name}: somebody else has been changing the champion for {WAIT_SECONDS} s; run the same command again later"
    )
