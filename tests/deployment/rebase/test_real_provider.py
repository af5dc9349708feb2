"""`reviewtune rebase --teacher` with the included provider's real server: it teaches in a batch, trains and answers."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from openai.types.fine_tuning import FineTuningJob

from reviewtune.deployment.rebase.rebase import RebaseOptions, rebase
from reviewtune.deployment.rebase.teacher import TeacherOptions
from reviewtune.providers.answer_cache import open_store
from tests.deployment.rebase.conftest import at_provider, write_unlabelled
from tests.support.serving import ServerProcess


def test_it_teaches_in_a_batch_and_trains_the_new_model(
    split_project: Path,
    server: ServerProcess,
    base: str,
    tuned: FineTuningJob,
    answers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same command again creates no batch and no job, and asks nothing.

    The teacher's answers are by chance, so they have no confidence here: with one they would be left out as unsure.
    """
    folder, teacher = tmp_path / "project", str(tuned.fine_tuned_model)
    shutil.copytree(split_project, folder, symlinks=True)
    monkeypatch.chdir(folder)
    config = at_provider(folder, kind="compatible", base_url=server.base_url, base_model=base, label_scores="none")
    overrides = (
        f"provider.base_url={server.base_url}",
        f"provider.base_model={base}",
        "provider.api_key_env=null",
        "provider.label_scores=raw",
    )
    asked = TeacherOptions(model=teacher, reviews=write_unlabelled(folder, config))
    options = RebaseOptions(provider="compatible", overrides=overrides, teacher=asked)
    batches, jobs = counts(server)

    report = rebase(options, config, folder)
    assert report.kept
    assert report.old
    assert counts(server) == (batches + 1, jobs + 1)
    newest = next(iter(server.client.batches.list()))
    assert newest.status == "completed"
    assert newest.request_counts
    assert (newest.request_counts.total, newest.request_counts.completed) == (60, 60)
    (file,) = (folder / "data" / "teacher").iterdir()
    rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    assert set(rows["label"]) <= set(config.data.labels)
    assert (report.kept.answered, report.kept.ended, report.kept.weighting) == (60, None, "none")
    assert report.old.model == teacher
    assert report.old.latency_p95, "the test reviews were asked one by one"
    trained = server.client.fine_tuning.jobs.retrieve(report.job_id)
    assert (trained.status, trained.fine_tuned_model) == ("succeeded", report.new.model)
    lines = server.client.files.content(trained.training_file).content.splitlines()
    assert len(lines) == report.labelled + 60

    with open_store(answers) as store:
        kept = store.shares()
    assert rebase(options, config, folder) == report
    assert counts(server) == (batches + 1, jobs + 1)
    with open_store(answers) as store:
        assert [share.answers for share in store.shares()] == [share.answers for share in kept]


def counts(server: ServerProcess) -> tuple[int, int]:
    """The server's batches and jobs."""
    return len(list(server.client.batches.list())), len(list(server.client.fine_tuning.jobs.list()))
