"""`reviewtune clean` removes nothing that is referred to anywhere, and nothing at all if that cannot be known."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from reviewtune.commands import clean, runs
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.folders import Usage, using
from reviewtune.errors import DataError, GitError
from reviewtune.tracking import queries
from reviewtune.tracking import runs as tracking_runs


class Place:
    """A project in git with runs in its own store; its provider is a paid one, so that no server is needed."""

    def __init__(self, folder: Path, settings: Config) -> None:
        self.folder, self.settings = folder, settings

    def make_run(self, kind: tracking_runs.RunKind = "evaluation", **tags: str) -> str:
        with tracking_runs.open_run(self.settings.tracking, name=kind, kind=kind, tags=tags) as run:
            run.text("x" * 1000, "big.txt")
        return run.id

    def write(self, name: str, run_id: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{\n  "version": 1,\n  "mlflow_run_id": "{run_id}"\n}}\n')

    def git(self, *words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
        subprocess.run(["git", *who, *words], cwd=self.folder, check=True, capture_output=True)

    def commit(self, name: str, run_id: str) -> None:
        self.write(name, run_id)
        self.git("add", "-f", name)
        self.git("commit", "-qm", "x")

    def removed(self) -> set[str]:
        return {run.id for run in clean.plan(self.settings).runs}

    def runs(self) -> set[str]:
        return {run.id for run in queries.find_runs(self.settings.tracking)}


@pytest.fixture
def place(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    folder = tmp_path / "project"
    folder.mkdir()
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["provider"]["kind"] = "openai"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "dvc.yaml").touch()
    (folder / ".gitignore").write_text("mlruns\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REVIEWTUNE_HOME", str(tmp_path / "home"))
    place = Place(folder, load_params(folder / "params.yaml"))
    place.git("init", "-q")
    place.git("add", ".")
    place.git("commit", "-qm", "first")
    return place


def of_another_owner(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


def without_git(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place.folder))


def without_a_repository(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(place.folder / ".git")


def with_a_lost_object(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (place.folder / ".git" / "objects").glob("??/*"):
        path.unlink()


def with_a_broken_branch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / ".git" / "refs" / "heads" / "broken").write_text("garbage\n")


def with_a_shallow_history(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = place.folder.with_name("whole")
    shutil.move(place.folder / ".git", whole)
    place.git("clone", "-q", "--bare", "--depth", "1", f"file://{whole}", str(place.folder / ".git"))
    place.git("config", "core.bare", "false")


REFUSALS = (
    (of_another_owner, r"dubious ownership.*; `git config --global --add safe.directory"),
    (without_git, "git is not installed"),
    (without_a_repository, "not a git repository.*run `git init` if it has no history"),
    (with_a_lost_object, "`git fsck` shows what is damaged"),
    (with_a_broken_branch, "`git fsck` shows what is damaged"),
    (with_a_shallow_history, "a shallow clone, whose history ends early; run `git fetch --unshallow`"),
)


@pytest.mark.parametrize(("damage", "message"), REFUSALS)
def test_nothing_is_removed_if_git_does_not_say_what_is_referred_to(
    damage: Callable[[Place, pytest.MonkeyPatch], None], message: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, forgotten = place.make_run(), place.make_run()
    place.commit("reports/arms/finetuned/run.json", named)
    place.commit("reports/arms/finetuned/run.json", "0" * 32)
    with monkeypatch.context() as patch:
        damage(place, patch)
        with pytest.raises(GitError, match=message) as caught:
            runs.clean(remove=True)
    assert "\n" not in str(caught.value)
    assert place.runs() == {named, forgotten}


def test_nothing_is_removed_if_a_run_file_is_damaged(place: Place) -> None:
    run = place.make_run()
    place.write("models/run.json", "")
    (place.folder / "models" / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"models/run\.json: damaged"):
        runs.clean(remove=True)
    assert place.runs() == {run}


def test_a_run_is_kept_wherever_it_is_referred_to(place: Place) -> None:
    """In an older stash, the dropped side of a merge, another folder of the repository, a running experiment."""
    stashed, staged, side, moved, running, forgotten = (place.make_run() for _ in range(6))
    place.commit("reports/arms/a/run.json", "0" * 32)
    for run in (stashed, staged):
        place.write("reports/arms/a/run.json", run)
        place.git("stash")
    place.git("checkout", "-qb", "side")
    place.commit("reports/arms/a/run.json", side)
    place.git("checkout", "-q", "-")
    place.commit("earlier/place/reports/arms/a/run.json", moved)
    place.git("merge", "-qs", "ours", "side", "-m", "drop side")
    place.git("branch", "-qD", "side")
    place.write(".dvc/tmp/exps/tmp1/sub/models/run.json", running)
    assert place.removed() == {forgotten}


def test_the_users_settings_of_git_hide_no_run(place: Place) -> None:
    run = place.make_run()
    (place.folder / ".gitattributes").write_text("*.json -diff\n")
    for setting in (("color.ui", "always"), ("diff.external", "false"), ("diff.noprefix", "true")):
        place.git("config", *setting)
    place.commit("reports/arms/a/run.json", run)
    place.commit("reports/arms/a/run.json", "0" * 32)
    assert place.removed() == set()


def test_a_hook_of_a_different_repository_does_not_redirect_the_question(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place.make_run()
    place.commit("models/run.json", run)
    place.commit("models/run.json", "0" * 32)
    subprocess.run(["git", "init", "-q", tmp_path / "other"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert place.removed() == set()


def test_it_lists_what_it_removes_before_it_does(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run = place.make_run()
    (place.folder / ".work" / "sweep" / "abc").mkdir(parents=True)
    runs.clean()
    shown = capsys.readouterr().out
    assert f"{run} evaluation evaluation, finished 20" in shown
    assert "\n                .work/sweep/abc\n" in shown
    assert place.runs() == {run}
    runs.clean(remove=True)
    assert f"{run} evaluation" in capsys.readouterr().out
    assert place.runs() == set()


def test_the_new_model_of_a_rebase_waits_for_its_promotion(place: Place) -> None:
    """Its evaluation, and the training that it names by the model."""
    model = {"model": "ft:new"}
    trained, evaluated = place.make_run("finetune", **model), place.make_run("evaluation", **model)
    earlier = place.make_run()
    report = place.folder / "reports" / "rebase" / "rebase.json"
    report.parent.mkdir(parents=True)
    report.write_text(f'{{"version": 1, "new": {{"model": "ft:new"}}, "run_id": "{evaluated}"}}')
    assert place.removed() == {earlier}
    report.write_text("{")
    with pytest.raises(DataError, match=r"rebase\.json: damaged .*`reviewtune rebase` writes it again"):
        place.removed()
    report.unlink()
    assert place.removed() == {trained, evaluated, earlier}


def test_audits_and_reports_of_the_monitor_are_kept(place: Place) -> None:
    """`retrain --if-needed` asks the last report, and people labelled the reviews of an audit.

    A report names the model that it is about, which an application may have left long ago.
    """
    place.make_run("audit")
    place.make_run("monitoring", model="ft:one")
    forgotten, trained = place.make_run(), place.make_run("finetune", model="ft:one")
    assert place.removed() == {forgotten, trained}


def test_the_folder_of_a_running_check_stays(place: Place) -> None:
    folder = place.folder / ".work" / "check-data" / "abc"
    folder.mkdir(parents=True)
    with using(folder):
        assert clean.plan(place.settings).folders == ()
    assert clean.plan(place.settings).folders == (folder,)


def test_a_folder_that_cannot_be_removed_is_named(place: Place) -> None:
    (place.folder / ".work" / "sweep").mkdir(parents=True)
    (place.folder / "elsewhere").mkdir()
    (place.folder / ".work" / "sweep" / "link").symlink_to(place.folder / "elsewhere")
    run = place.make_run()
    with pytest.raises(DataError, match=r"not removed: .*/\.work/sweep/link: "):
        runs.clean(remove=True)
    assert (place.folder / "elsewhere").is_dir()
    assert run not in place.runs()


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "file").write_bytes(b"x" * 1000)
    os.link(first / "file", second / "file")
    usage, freed, only_one = Usage(), Usage(), Usage()
    assert [usage.new(first), usage.new(second), usage.new(tmp_path)] == [1000, 0, 0]
    assert [freed.freed(first), freed.freed(second)] == [0, 1000]
    assert only_one.freed(first) == 0
