"""The model registry: what is registered comes back complete, and the champion changes in one step or not at all."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.core.config.config import TrackingConfig
from reviewtune.errors import TrackingError
from reviewtune.tracking import aliases, process, registry, registry_lock
from reviewtune.tracking import store as tracking_store
from tests.support.registry import NAME, promote, register, said
from tests.support.services import mlflow_server
from tests.support.tracking import SETTINGS, stored

FORK = multiprocessing.get_context("fork")
WRITES = (
    "create_registered_model", "create_logged_model", "log_model_artifacts", "finalize_logged_model",
    "create_model_version", "set_model_version_tag", "set_registered_model_tag", "set_registered_model_alias",
)  # fmt: skip


def forked(work: Callable[[], Any]) -> Any:
    """A started child that does this with its own connection to the store."""

    def run() -> None:
        tracking_store._own.cache_clear()
        tracking_store._remote.cache_clear()
        work()

    child = FORK.Process(target=run)
    child.start()
    return child


def test_what_is_registered_comes_back(moved_project: Path, tmp_path: Path) -> None:
    version = register(tmp_path, "good")
    assert (version.version, version.tags["arm"], version.is_ready, version.aliases) == (1, "good", True, ())
    assert "nothing" not in version.tags
    folder = registry.download(SETTINGS, version, tmp_path / "out")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("served_model.json", "good")]
    assert registry.versions(SETTINGS, NAME) == [version]
    assert registry.by_alias(SETTINGS, NAME) is None
    assert registry.with_alias(SETTINGS) == []


def test_mlflows_own_tools_load_it(moved_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    promote(tmp_path, "late")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_store.open_store(SETTINGS).uri)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_store.open_store(SETTINGS).uri)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
        assert model.predict(pd.DataFrame({"text": ["a", "b"]}))["label"].tolist() == ["late", "late"]
        with pytest.raises(Exception, match="text"):
            model.predict(pd.DataFrame({"other": ["a"]}))
    finally:
        mlflow.set_tracking_uri(before)


def test_registering_leaves_mlflows_default_store_alone(moved_project: Path, tmp_path: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    register(tmp_path, "good")
    assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before
    assert not Path("mlflow.db").exists()


def test_a_question_creates_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert registry.by_alias(SETTINGS, NAME) is None
    assert registry.versions(SETTINGS) == []
    assert [path.name for path in tmp_path.iterdir()] == ["dvc.yaml"]


def test_promotions_and_rollbacks_are_remembered(moved_project: Path, tmp_path: Path) -> None:
    first, second = promote(tmp_path, "one"), promote(tmp_path, "two")
    assert (first.replaced, second.replaced) == (None, 1)
    assert (said(tmp_path), said(tmp_path, "previous")) == ("two", "one")
    aliases.roll_back(SETTINGS, NAME, expected=2, reason="worse at\nrefunds")
    assert (said(tmp_path), said(tmp_path, "previous")) == ("one", "two")
    aliases.roll_back(SETTINGS, NAME, expected=1, reason="not worse")
    assert (said(tmp_path), said(tmp_path, "previous")) == ("two", "one")
    changes = aliases.history(SETTINGS, NAME)
    assert [(change.action, change.version, change.reason) for change in changes] == [
        ("rollback", 2, "not worse"),
        ("rollback", 1, "worse at refunds"),
        ("promotion", 2, "it says two"),
        ("promotion", 1, "it says one"),
    ]
    assert all(change.completed for change in changes)
    champion = registry.by_alias(SETTINGS, NAME)
    assert champion is not None
    assert champion.tags["champion_since"] == changes[0].at
    assert champion.tags["champion_reason"] == "not worse"


def test_the_first_champion_cannot_be_rolled_back(moved_project: Path, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="has no champion: `reviewtune promote` makes one"):
        aliases.roll_back(SETTINGS, NAME, expected=None, reason="")
    promote(tmp_path, "one")
    with pytest.raises(TrackingError, match="version 1 is the first champion"):
        aliases.roll_back(SETTINGS, NAME, expected=1, reason="")
    assert said(tmp_path) == "one"


def test_a_model_from_which_somebody_went_back_is_known_until_it_is_champion_again(
    moved_project: Path, tmp_path: Path
) -> None:
    promote(tmp_path, "one")
    promote(tmp_path, "two")
    assert rolled_back(2) is None
    aliases.roll_back(SETTINGS, NAME, expected=2, reason="worse")
    left = rolled_back(2)
    assert left is not None
    assert (left.replaced, left.reason) == (2, "worse")
    assert rolled_back(1) is None
    promote(tmp_path, "three")
    assert rolled_back(2) == left, "another champion changes nothing about it"
    promote(tmp_path, "two")  # version 4, in which the model of version 2 is promoted again
    assert rolled_back(2, 4) is None
    promote(tmp_path, "five")
    assert rolled_back(2, 4) is None


def test_a_second_rollback_takes_the_first_one_back(moved_project: Path, tmp_path: Path) -> None:
    promote(tmp_path, "one")
    promote(tmp_path, "two")
    aliases.roll_back(SETTINGS, NAME, expected=2, reason="worse")
    aliases.roll_back(SETTINGS, NAME, expected=1, reason="it was not")
    assert (rolled_back(1), rolled_back(2)) == (None, None)


def rolled_back(*numbers: int) -> aliases.Change | None:
    return aliases.rolled_back(aliases.history(SETTINGS, NAME), set(numbers))


def test_a_rollback_takes_less_than_a_second(moved_project: Path, tmp_path: Path) -> None:
    promote(tmp_path, "one")
    promote(tmp_path, "two")
    started = time.process_time()
    aliases.roll_back(SETTINGS, NAME, expected=2, reason="")
    assert time.process_time() - started < 1


def test_two_promotions_at_once_make_one_champion(moved_project: Path, tmp_path: Path) -> None:
    promote(tmp_path, "one")
    version = {name: register(tmp_path, name) for name in ("left", "right")}

    def work(name: str) -> None:
        try:
            aliases.promote(SETTINGS, version[name], expected=1, reason=name)
        except TrackingError as error:
            (tmp_path / f"{name}.error").write_text(str(error))

    children = [forked(partial(work, name)) for name in version]
    for child in children:
        child.join(60)
    (refused,) = tmp_path.glob("*.error")
    winner = next(name for name in version if name != refused.stem)
    assert said(tmp_path) == winner
    assert said(tmp_path, "previous") == "one"
    assert "is champion now by the promotion of" in refused.read_text()
    assert "nothing was changed, run the command again" in refused.read_text()
    assert [change.reason for change in aliases.history(SETTINGS, NAME)] == [winner, "it says one"]


def test_two_rollbacks_at_once_go_back_once(moved_project: Path, tmp_path: Path) -> None:
    promote(tmp_path, "one")
    promote(tmp_path, "two")

    def work() -> None:
        try:
            aliases.roll_back(SETTINGS, NAME, expected=2, reason="bad")
        except TrackingError:
            (tmp_path / f"{os.getpid()}.error").touch()

    children = [forked(work), forked(work)]
    for child in children:
        child.join(60)
    assert said(tmp_path) == "one"
    assert len(list(tmp_path.glob("*.error"))) == 1


def _kill_before_write(number: int) -> None:
    """Let this process die by SIGKILL before its write of this number to the registry."""
    from mlflow import MlflowClient

    count = iter(range(10_000))

    def deadly(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **options)

        return call

    for name in WRITES:
        setattr(MlflowClient, name, deadly(getattr(MlflowClient, name)))


def test_a_promotion_killed_at_any_write_leaves_a_complete_champion(moved_project: Path, tmp_path: Path) -> None:
    import mlflow  # noqa: F401 - once here, instead of in every child

    for content in ("one", "two"):
        child = forked(partial(promote, tmp_path, content))
        child.join(60)
    seen = set()
    for number in range(30):

        def work(number: int = number) -> None:
            _kill_before_write(number)
            promote(tmp_path, f"killed-{number}")

        child = forked(work)
        child.join(60)
        check = forked(lambda: _check_after_kill(tmp_path))
        check.join(60)
        assert check.exitcode == 0, number
        seen.add(child.exitcode)
        if child.exitcode == 0:
            break
    assert seen == {-signal.SIGKILL, 0}
    assert number >= 8, "each kind of write was reached"
    kept = {one.model_id for one in stored().search_logged_models(["1"])}
    versions = {one.source.removeprefix("models:/") for one in stored().search_model_versions()}
    assert kept == versions, "the next promotion removes what a killed one left, uploaded completely or not"
    assert {folder.name for folder in Path("mlruns").rglob("m-*")} == versions


def _check_after_kill(place: Path) -> None:
    """The champion and the one before it are complete, and going back and forth works."""
    champion, previous = said(place), None
    assert champion
    version = registry.by_alias(SETTINGS, NAME)
    assert version is not None
    assert version.is_ready
    target = aliases.before(SETTINGS, version)
    assert target is not None, "the champion before is known, whichever alias was set"
    assert target.version != version.version
    aliases.roll_back(SETTINGS, NAME, expected=version.version, reason="check")
    previous = said(place)
    assert previous
    assert previous != champion
    aliases.roll_back(SETTINGS, NAME, expected=target.version, reason="check")
    assert said(place) == champion


def test_an_upload_of_another_machine_is_left_alone_for_a_day(moved_project: Path, tmp_path: Path) -> None:
    store = tracking_store.open_store(SETTINGS)
    elsewhere: Any = store.create_logged_model(store.experiment, name=NAME, tags={"process": "elsewhere:1:1"})
    register(tmp_path, "one")
    assert elsewhere.model_id in {one.model_id for one in stored().search_logged_models(["1"])}
    aged = {"set": "creation_timestamp_ms = creation_timestamp_ms - 86400000", "where": f"'{elsewhere.model_id}'"}
    with sqlite3.connect("mlruns/mlflow.db") as database:
        database.execute(f"update logged_models set {aged['set']} where model_id = {aged['where']}")
    register(tmp_path, "two")
    assert elsewhere.model_id not in {one.model_id for one in stored().search_logged_models(["1"])}


def test_an_unreachable_registry_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = TrackingConfig(experiment="x", uri="http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"the server does not answer: start that server or correct tracking\.uri"):
        registry.by_alias(nobody, NAME)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingConfig]:
    """An MLflow server that a team shares."""
    folder = tmp_path_factory.mktemp("server")
    store, artifacts = f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")
    with mlflow_server(store, artifacts, folder / "server.log") as address:
        yield TrackingConfig(experiment="shared", uri=address)


PROMOTE = """
import sys
from reviewtune.core.config.config import TrackingConfig
from reviewtune.errors import one_line_errors
from reviewtune.tracking import aliases, registry
address, name, number = sys.argv[1:]
settings = TrackingConfig(experiment="shared", uri=address)
(version,) = [one for one in registry.versions(settings, name) if one.version == int(number)]
print("ready", flush=True)
sys.stdin.readline()
with one_line_errors():
    aliases.promote(settings, version, expected=1, reason=number)
"""


def test_a_shared_server_has_one_champion_whoever_acts_at_once(shared: TrackingConfig, tmp_path: Path) -> None:
    promote(tmp_path, "one", shared)
    numbers = [str(register(tmp_path, name, shared).version) for name in ("left", "right")]
    commands = [[sys.executable, "-c", PROMOTE, str(shared.uri), NAME, number] for number in numbers]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    people = [subprocess.Popen(command, **pipes) for command in commands]  # type: ignore[call-overload]
    for person in people:
        assert person.stdout.readline() == "ready\n"
    for person in people:
        person.stdin.write("\n")
        person.stdin.flush()
    errors = [person.communicate()[1] for person in people]
    statuses = [person.returncode for person in people]
    assert sorted(statuses) == [0, 1], errors
    assert "is champion now by the promotion of" in errors[statuses.index(1)]
    champion = registry.by_alias(shared, NAME)
    assert champion is not None
    assert str(champion.version) == numbers[statuses.index(0)]
    names = [model.name for model in tracking_store.open_store(shared).search_registered_models()]
    assert names == [NAME], "the lock is gone"


HOLD = """
import os, signal, sys
from reviewtune.core.config.config import TrackingConfig
from reviewtune.tracking.registry_lock import alone_with
with alone_with(TrackingConfig(experiment="shared", uri=sys.argv[1]), sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lock_whose_process_died_is_taken_over(shared: TrackingConfig) -> None:
    died = subprocess.run([sys.executable, "-c", HOLD, str(shared.uri), NAME])
    assert died.returncode == -signal.SIGKILL
    store = tracking_store.open_store(shared)
    assert store.get_model_or_none(f"{NAME}.lock") is not None
    started = time.monotonic()
    with registry_lock.alone_with(shared, NAME) as held:
        held.confirm()
    assert time.monotonic() - started < registry_lock.ABANDONED_SECONDS
    assert store.get_model_or_none(f"{NAME}.lock") is None


def test_a_container_of_the_same_name_keeps_its_lock(shared: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is not visible from here, which must not be taken for its end."""
    store = tracking_store.open_store(shared)
    host, processes = process.machine().rsplit("-", 1)
    other = f"{host}-{int(processes, 16) + 1:x}:{os.getpid()}:1:token"
    store.create_registered_model(f"{NAME}.lock", {registry_lock.HOLDER: other})
    monkeypatch.setattr(registry_lock, "WAIT_SECONDS", 1)
    try:
        with pytest.raises(TrackingError, match="somebody else has been changing the champion"):
            registry_lock.alone_with(shared, NAME).__enter__()
        assert store.get_model_or_none(f"{NAME}.lock").tags[registry_lock.HOLDER] == other  # type: ignore[union-attr]
    finally:
        store.delete_registered_model(f"{NAME}.lock")


def test_who_lost_the_lock_changes_nothing(shared: TrackingConfig) -> None:
    store = tracking_store.open_store(shared)
    with registry_lock.alone_with(shared, NAME) as held:
        store.delete_registered_model(f"{NAME}.lock")
        with pytest.raises(TrackingError, match="somebody else took over"):
            held.confirm()
