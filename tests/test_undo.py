"""Every undo of docs/cleaning.md undoes: the commands are read from its table and run in a real clone."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from reviewtune.core.user_dirs import account_folder, cache_folder
from tests.support.clones import Clone

pytestmark = pytest.mark.pipeline
PAGE = Path(__file__).parent.parent / "docs" / "cleaning.md"
TESTED_ELSEWHERE = ("a fine-tuning job was started",)  # `jobs cancel`, in tests/commands/test_jobs.py


def documented() -> dict[str, list[str]]:
    """What was done -> the commands that undo it."""
    table = PAGE.read_text().partition("| how to undo it |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {
        done: [part for text in re.findall("`([^`]+)`", undo) for part in text.split(" && ")] for done, undo in rows
    }


def undo(clone: Clone, beginning: str, **names: str) -> str:
    """Run what the page says for the row that begins so; returns all that was printed."""
    (commands,) = [commands for done, commands in documented().items() if done.startswith(beginning)]
    shown = ""
    for command in commands:
        words = [names.get(word, word) for word in command.split()]
        shown += clone.run(*(["python", "stages/check_config.py", "--write"] if words == ["make", "params"] else words))
    return shown


def model(clone: Clone) -> str:
    return str(clone.json("models/finetuned.json")["model"])


def changes(clone: Clone) -> str:
    """What git sees, whatever its index has cached."""
    clone.git("add", "--renormalize", ".")
    return clone.git("status", "--short")


def classify(clone: Clone, *, ok: bool = True) -> str:
    (clone.folder / ".work").mkdir(exist_ok=True)
    (clone.folder / ".work" / "new.csv").write_text("text\nStill no parcel.\n")
    return clone.run("reviewtune", "classify", ".work/new.csv", "--out", ".work/sorted.csv", ok=ok)


def test_every_row_of_the_page_is_tested() -> None:
    tests = Path(__file__).read_text()
    for done, commands in documented().items():
        assert commands, done
        assert done in TESTED_ELSEWHERE or re.search(rf'undo\(\s*\w+, "{re.escape(done[:20])}', tests), done


def test_the_page_names_the_folders_of_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REVIEWTUNE_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for folder in (account_folder(), cache_folder()):
        assert f"`~/{folder.relative_to(Path.home())}`" in PAGE.read_text()


def test_before_the_first_commit_nothing_is_trained_again(clone: Clone) -> None:
    before, jobs = model(clone), clone.jobs()
    clone.run("dvc", "exp", "run", "-S", "evaluation.resamples=500")
    undo(clone, "the same, before `dvc.lock`")
    assert "resamples: 500" not in (clone.folder / "params.yaml").read_text()
    assert (model(clone), clone.jobs()) == (before, jobs)
    assert clone.repro() == []


class TestCommitted:
    """After the first commit, each test ends with the committed state."""

    def test_an_experiment_with_other_data(self, committed: Clone) -> None:
        """git restores the configuration but not the model, which is refused until DVC restores it too."""
        before = model(committed)
        committed.run("dvc", "exp", "run", "-n", "ko", "-S", "data=reviews_ko", "finetune")
        committed.git("checkout", "-q", ".")
        assert model(committed) != before
        shown = classify(committed, ok=False)
        assert "was trained with data set reviews_ko, but params.yaml describes reviews_en; run `dvc checkout`" in shown
        assert "reviews_en" in committed.run(
            "reviewtune", "evaluate", "--ground-truth", "data/splits/test.csv", ok=False
        )
        undo(committed, "`dvc exp run`, `dvc exp apply`")
        assert (model(committed), changes(committed)) == (before, "")
        assert "up to date" in committed.run("dvc", "status")
        classify(committed)

    def test_an_applied_experiment(self, committed: Clone) -> None:
        before = model(committed)
        committed.run("dvc", "exp", "apply", "ko")
        assert model(committed) != before
        undo(committed, "`dvc exp run`, `dvc exp apply`")
        assert (model(committed), changes(committed)) == (before, "")
        assert committed.repro() == []

    def test_a_kept_experiment(self, committed: Clone) -> None:
        assert "ko" in committed.run("dvc", "exp", "list")
        undo(committed, "an experiment is kept", NAME="ko")
        assert "ko" not in committed.run("dvc", "exp", "list")

    def test_a_failed_experiment(self, committed: Clone) -> None:
        """The faulty params.yaml has the size of the committed one, so that git alone may not see the change."""
        committed.run("dvc", "exp", "run", "-S", "training.n_epochs=0", ok=False)
        undo(committed, "`dvc exp run`, `dvc exp apply`")
        assert "n_epochs: 2" in (committed.folder / "params.yaml").read_text()
        assert changes(committed) == ""
        assert committed.repro() == []

    def test_a_killed_experiment(self, committed: Clone) -> None:
        branch = committed.git("branch", "--show-current").strip()
        process = committed.start("dvc", "exp", "run", "-S", "evaluation.resamples=600")
        deadline = time.monotonic() + 120
        while "resamples: 600" not in (committed.folder / "params.yaml").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        # The kill may come while git writes its index; git's own message says to remove the file.
        (committed.folder / ".git" / "index.lock").unlink(missing_ok=True)
        undo(committed, "`dvc exp run` was killed", BRANCH=branch)
        undo(committed, "`dvc exp run`, `dvc exp apply`")
        assert committed.git("branch", "--show-current").strip() == branch
        assert "resamples: 600" not in (committed.folder / "params.yaml").read_text()
        assert changes(committed) == ""
        assert committed.repro() == []

    def test_a_setting_that_was_not_committed(self, committed: Clone) -> None:
        committed.edit("conf/config.yaml", "test: 0.06", "test: 0.07")
        committed.write_params()
        committed.repro("split")
        undo(committed, "a setting in `conf/`")
        assert changes(committed) == ""

    def test_frozen_splits(self, committed: Clone) -> None:
        """Freezing changes no split, so nothing but stage split runs, and nothing at all after the undo."""
        assert "newly frozen" in committed.run("reviewtune", "freeze-splits")
        assert committed.repro() == ["split"]
        assert changes(committed).split() == ["M", "data/frozen_splits.csv", "M", "dvc.lock"]
        undo(committed, "`reviewtune freeze-splits`, not committed")
        assert changes(committed) == ""
        assert committed.repro() == []

    def test_a_promotion_and_its_rollback(self, committed: Clone, tmp_path: Path) -> None:
        """Nothing but the registry and the frozen sides is changed; a rollback is its own undo.

        In a copy, since a registry without its champion cannot be had again.
        """
        committed = committed.copy(tmp_path / "project")
        for arm in ("linear", "zero_shot"):
            committed.run("reviewtune", "promote", "--arm", arm, "--force", "--reason", "to undo it")
        assert "version 2\n" in committed.run("reviewtune", "champion")
        undo(committed, "`reviewtune promote`, with a champion before")
        assert "version 1\n" in committed.run("reviewtune", "champion")
        undo(committed, "`reviewtune rollback`")
        assert "version 2\n" in committed.run("reviewtune", "champion")
        undo(committed, "`reviewtune freeze-splits`, not committed")
        (committed.folder / "reports" / "gates.json").unlink()
        assert changes(committed) == ""

    def test_queued_experiments(self, committed: Clone) -> None:
        committed.run("dvc", "exp", "run", "--queue", "-n", "waiting", "-S", "training.n_epochs=1")
        assert "waiting" in committed.run("dvc", "queue", "status")
        undo(committed, "experiments wait in the queue")
        assert "waiting" not in committed.run("dvc", "queue", "status")

    def test_a_damaged_lock(self, committed: Clone) -> None:
        jobs = committed.jobs()
        (committed.folder / "dvc.lock").write_text("")
        assert "dvc.lock" in committed.run("dvc", "repro", ok=False)
        undo(committed, "`dvc repro` was killed and calls")
        assert committed.jobs() == jobs
        assert "up to date" in committed.run("dvc", "status")

    def test_deleted_weights(self, committed: Clone) -> None:
        """Also if the answers are no longer cached; the message names the first of the commands."""
        committed.end_server()
        shutil.rmtree(committed.home / "data" / "models")
        for path in (committed.home / "cache").glob("answers.db*"):
            path.unlink()
        assert "up to date" in committed.run("dvc", "repro")
        shown = classify(committed, ok=False)
        assert "`dvc repro --force --single-item finetune` trains it again" in shown
        undo(committed, "the weights of the local model")
        classify(committed)
        assert "up to date" in committed.run("dvc", "status")


def test_everything_works_in_a_part_of_a_larger_repository(clone: Clone, tmp_path: Path) -> None:
    """From any folder of it, on a detached HEAD, without a trace in the repository."""
    whole = tmp_path / "whole repository"
    part = clone.copy(whole / "teams" / "a project")
    shutil.rmtree(part.folder / ".git")
    (whole / ".gitignore").write_text("*-home\n")
    subprocess.run(["git", "init", "-q", whole], check=True)
    part.commit("all")
    part.git("checkout", "-q", "--detach")
    part.run("dvc", "repro", "--force", "--single-item", "baseline@majority")
    run = part.json("reports/arms/majority/run.json")["mlflow_run_id"]
    part.folder /= "docs"
    assert "identical" in part.run("reviewtune", "reproduce", run[:8])
    assert "against zero_shot" in part.run("reviewtune", "compare")
    assert "<- this run" in part.run("reviewtune", "lineage", run[:8])
    assert re.search(r"\d+ runs? of \d+", part.run("reviewtune", "clean"))
    assert part.git("worktree", "list").count("\n") == 1
    assert {path.name for path in whole.iterdir()} == {".git", ".gitignore", "teams"}
