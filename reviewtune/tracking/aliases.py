"""Who is champion: change the aliases `champion` and `previous` of a registered model, and read how they changed.

Each change is noted first, as a tag of the registered model; then `previous` is set, then `champion`, then the note is
completed. So `champion` moves in one step from one complete version to another, whenever a process is killed. What a
killed process leaves is put right from the notes: see `before`.
"""

import getpass
import json
import socket
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from reviewtune.errors import TrackingError
from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.registry import CHAMPION, PREVIOUS, RegisteredVersion, by_alias, set_tags, versions
from reviewtune.tracking.registry_lock import Held, alone_with

if TYPE_CHECKING:
    from reviewtune.core.config.config import TrackingConfig

NOTE = "change."
"""Beginning of the tags that hold the changes; the rest is the time, so that their order is that of the changes."""
REASON_LENGTH = 1000

Action = Literal["promotion", "rollback"]


@dataclass(frozen=True)
class Change:
    """One change of the champion.

    Args:
        action: how.
        version: the new champion.
        replaced: the champion before; None: there was none.
        at: when, in ISO 8601, UTC.
        by: who, as user@machine.
        reason: why.
        forced: whether gates had failed.
        completed: False if the process was killed in between; `version` may then never have been champion.
        not_noted: why the registry did not take the last notes, although the champion changed; usually empty.
    """

    action: Action
    version: int
    replaced: int | None
    at: str
    by: str
    reason: str
    forced: bool = False
    completed: bool = False
    not_noted: str = ""


def promote(
    settings: "TrackingConfig", version: RegisteredVersion, *, expected: int | None, reason: str, forced: bool = False
) -> Change:
    """Make a version the champion.

    Args:
        settings: the section `tracking`.
        version: the version; `registry.register` made it.
        expected: the champion that it was compared with; None: there was none.
        reason: why, for the history.
        forced: whether gates failed.

    Raises:
        TrackingError: somebody else changed the champion in the meantime, the version is not complete, or the registry
            does not answer.
    """
    if not version.is_ready:
        raise TrackingError(f"{version.address} was not registered by `reviewtune promote`, which is needed here")
    with alone_with(settings, version.name) as held:
        champion = by_alias(settings, version.name)
        _refuse_other(version.name, champion, expected, settings)
        change = _change("promotion", version, champion, reason, forced=forced)
        return _switch(settings, held, version, champion, change)


def roll_back(settings: "TrackingConfig", name: str, *, expected: int | None, reason: str) -> Change:
    """Make the previous champion the champion again, and the champion the previous one.

    Args:
        settings: the section `tracking`.
        name: of the registered model.
        expected: the champion that the caller saw. Two people who roll back at once go back once, not twice.
        reason: why, for the history.

    Raises:
        TrackingError: there is no previous champion, somebody else changed the champion in the meantime, or the
            registry does not answer.
    """
    with alone_with(settings, name) as held:
        champion = by_alias(settings, name)
        _refuse_other(name, champion, expected, settings)
        if champion is None:
            raise TrackingError(f"{name} has no champion: `reviewtune promote` makes one")
        target = before(settings, champion)
        if target is None:
            raise TrackingError(
                f"{name}: version {champion.version} is the first champion, there is none to go back to"
            )
        return _switch(settings, held, target, champion, _change("rollback", target, champion, reason))


def before(settings: "TrackingConfig", champion: RegisteredVersion) -> RegisteredVersion | None:
    """The champion before this one: who has the alias `previous`; None if there was none.

    A process that was killed between the two aliases leaves both on one version; the notes then know the one before.
    """
    previous = by_alias(settings, champion.name, PREVIOUS)
    if previous is None or previous.version != champion.version:
        return previous
    led_here = (change for change in history(settings, champion.name) if change.version == champion.version)
    replaced = next((change.replaced for change in led_here if change.completed), None)
    return next((one for one in versions(settings, champion.name) if one.version == replaced), None)


def history(settings: "TrackingConfig", name: str) -> list[Change]:
    """All changes of the champion, newest first.

    Raises:
        TrackingError: the registry does not answer.
    """
    champion = by_alias(settings, name)
    if champion is None:
        return []
    tags: Mapping[str, str] = tracking_store.open_store(settings).get_registered_model(name).tags
    changes = [_read(text) for key, text in sorted(tags.items(), reverse=True) if key.startswith(NOTE)]
    if changes and changes[0].version == champion.version:  # killed after the alias was set
        changes[0] = replace(changes[0], completed=True)
    return changes


def rolled_back(changes: Sequence[Change], numbers: AbstractSet[int]) -> Change | None:
    """The rollback by which somebody went back from a model; None: nobody did, or it was champion again since then.

    A second rollback takes the first one back, and says nothing against the version that was champion between them.

    Args:
        changes: as `history` returns them.
        numbers: of all versions of the model.
    """
    left: dict[int, Change] = {}
    for change in reversed([change for change in changes if change.completed]):
        goes_forward = left.pop(change.version, None) is not None
        if change.version in numbers:
            left = {number: one for number, one in left.items() if number not in numbers}
        if change.action == "rollback" and change.replaced is not None and not goes_forward:
            left[change.replaced] = change
    return max((left[number] for number in numbers if number in left), key=lambda one: one.at, default=None)


def _refuse_other(
    name: str, champion: RegisteredVersion | None, expected: int | None, settings: "TrackingConfig"
) -> None:
    """Refuse if the champion is not the expected one.

    Raises:
        TrackingError: with who changed it.
    """
    found = champion.version if champion else None
    if found == expected:
        return
    last = next(iter(history(settings, name)), None)
    by = f" by the {last.action} of {last.by} at {last.at}" if last else ""
    now = f"version {found} is champion now" if found else "there is no champion now"
    then = f"version {expected}" if expected else "none"
    raise TrackingError(f"{name}: {now}{by}, it was {then} when this began; nothing was changed, run the command again")


def _switch(
    settings: "TrackingConfig", held: Held, to: RegisteredVersion, champion: RegisteredVersion | None, change: Change
) -> Change:
    """Set the aliases, in the order that the module's docstring explains."""
    store, name = tracking_store.open_store(settings), to.name
    key = f"{NOTE}{change.at}"
    _note(store, name, key, change)
    if champion is not None:
        store.set_registered_model_alias(name, PREVIOUS, str(champion.version))
    held.confirm()
    store.set_registered_model_alias(name, CHAMPION, str(to.version))
    _verify(by_alias(settings, name), to)
    done = replace(change, completed=True)
    try:
        set_tags(settings, to, {"champion_since": done.at, "champion_by": done.by, "champion_reason": done.reason})
        _note(store, name, key, done)
    except TrackingError as error:  # the champion has changed: a failure would say the opposite; `history` repairs it
        return replace(done, not_noted=str(error))
    return done


def _verify(champion: RegisteredVersion | None, wanted: RegisteredVersion) -> None:
    """Read back what was written: on a server, somebody else may set aliases without our lock."""
    if champion is None or champion.version != wanted.version:
        now = f"version {champion.version}" if champion else "gone"
        raise TrackingError(
            f"{wanted.name}: champion was set to version {wanted.version}, but is {now}: another program changed it; "
            "`reviewtune champion --history` shows the changes, run the command again if yours is the right one"
        )


def _change(
    action: Action,
    version: RegisteredVersion,
    champion: RegisteredVersion | None,
    reason: str,
    *,
    forced: bool = False,
) -> Change:
    return Change(
        action=action,
        version=version.version,
        replaced=champion.version if champion else None,
        at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        by=_who(),
        reason=" ".join(reason.split())[:REASON_LENGTH],
        forced=forced,
    )


def _who() -> str:
    user = "unknown"
    with suppress(OSError, KeyError):  # a container's user may have no name
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def _note(store: tracking_store.Store, name: str, key: str, change: Change) -> None:
    store.set_registered_model_tag(name, key, json.dumps(asdict(change), ensure_ascii=False))


def _read(text: str) -> Change:
    """A noted change. Only this module writes the notes; keys of a later release are ignored."""
    values: dict[str, Any] = json.loads(text)
    return Change(**{name: value for name, value in values.items() if name in Change.__dataclass_fields__})
