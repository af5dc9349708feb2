"""`reviewtune rebase --teacher`, killed at four moments: the same command continues and pays nothing twice.

The real command against two servers, which count what they were asked.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.deployment.rebase.parity_file import read_report
from reviewtune.providers.answer_cache import open_store
from reviewtune.tracking.queries import find_runs
from tests.deployment.rebase.conftest import Project
from tests.support.held import held
from tests.support.odd_server import CHAT
from tests.support.played_provider import JOBS
from tests.support.serving import wait_for

START = 120.0  # seconds until a command on a busy machine has asked its first question


class Command:
    """The command of a user, always the same one."""

    def __init__(self, moving: Project, home: Path) -> None:
        words = ["rebase", "--provider", "compatible", "--teacher", "ft:old", "--reviews", moving.unlabelled.name]
        self.words = [sys.executable, "-m", "reviewtune", *words, *moving.at_new]
        self.moving, self.home = moving, home
        self.environment = {**moving.environment, "REVIEWTUNE_HOME": str(home)}

    def killed_when(self, reached: Callable[[], object]) -> str:
        """Start it, and kill it when this is true; returns what it said."""
        process = subprocess.Popen(
            self.words,
            cwd=self.moving.folder,
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_for(lambda: process.poll() is not None or reached(), START)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, said
        return said

    def finished(self) -> str:
        done = subprocess.run(self.words, cwd=self.moving.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def kept(self) -> int:
        """Answers in the cache: each of them was paid and must not be asked again."""
        path = self.home / "cache" / "answers.db"
        if not path.exists():
            return 0
        with open_store(path) as store:
            return sum(share.answers for share in store.shares())


@pytest.fixture
def command(moving: Project, tmp_path: Path) -> Command:
    return Command(moving, tmp_path / "home")


def test_killed_at_four_moments(moving: Project, command: Command) -> None:
    old, new = moving.old, moving.new
    measured = sum(len(pd.read_csv(moving.paths.splits.part(part))) for part in ("valid", "test"))

    def all_are_kept(waits: threading.Event) -> Callable[[], bool]:
        return lambda: waits.is_set() and command.kept == len(old.paid) + len(new.paid)

    with held(old.server, CHAT, after=measured + 25) as waits:
        command.killed_when(all_are_kept(waits))
    assert (len(old.paid), len(new.jobs)) == (measured + 25, 0)

    with held(new.server, f"POST {JOBS}", does_it=True) as waits:  # the job is there, and its reply is lost
        said = command.killed_when(waits.is_set)
    assert "old model: 25 of 60 answers kept from before" in said
    assert (len(old.paid), len(new.jobs), len(new.files)) == (measured + 60, 1, 2)

    new.is_training = True
    polled = new.server.count(f"GET {JOBS}/job-0")
    command.killed_when(lambda: new.server.count(f"GET {JOBS}/job-0") > polled)
    new.is_training = False

    with held(new.server, CHAT, after=10) as waits:
        command.killed_when(all_are_kept(waits))
    assert len(new.paid) == 10

    command.finished()
    assert (len(new.jobs), len(new.files)) == (1, 2)
    assert sorted(set(old.paid)) == sorted(old.paid)
    assert sorted(set(new.paid)) == sorted(new.paid)
    assert len(old.paid) == measured + 60
    report = read_report(moving.folder)
    assert report.kept
    assert (report.kept.answered, report.kept.ended, report.verdict) == (60, None, "passed")
    asked = old.server.count(CHAT), new.server.count(CHAT)
    assert "passed: the new model may replace the old one" in command.finished()
    assert (old.server.count(CHAT), new.server.count(CHAT), len(new.jobs)) == (*asked, 1)
    runs = find_runs(moving.config.tracking, "tags.rebase = 'compatible'")
    assert sorted((run.tags["kind"], run.status) for run in runs) == [
        ("evaluation", "FINISHED"),
        ("finetune", "FINISHED"),
    ]
