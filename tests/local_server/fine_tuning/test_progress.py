"""What a trainer reports is recorded once, however often its file is read; a trainer ends when it is told to."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import openai
import psutil
from openai.types.fine_tuning import FineTuningJob
from sqlalchemy import select

from reviewtune.local_server.fine_tuning.job_folder import JobFolder
from reviewtune.local_server.fine_tuning.progress_reader import ProgressReader
from reviewtune.local_server.settings import Settings
from reviewtune.local_server.storage.account import open_account
from reviewtune.local_server.storage.tables import Job
from tests.support.serving import ServerProcess, example, finished, upload, wait_for

TRAINER = """
import sys, time
from pathlib import Path
from reviewtune.local_server.fine_tuning.job_folder import JobFolder
with JobFolder(Path(sys.argv[1])).trainer_lock(5):
    time.sleep(600)
"""


def test_a_progress_file_that_is_read_again_brings_nothing_back(
    client: openai.OpenAI, base: str, server: ServerProcess
) -> None:
    """Neither checkpoints that are no longer kept, nor a deleted one, nor the attempts of a trainer that dies."""
    parameters: Any = {"n_epochs": 5, "batch_size": 12}
    file = upload(client, [example(index) for index in range(100, 140)])
    created = client.fine_tuning.jobs.create(model=base, training_file=file.id, hyperparameters=parameters)
    job = finished(client, created.id)
    kept = [one.fine_tuned_model_checkpoint for one in client.fine_tuning.jobs.checkpoints.list(job.id)]
    client.models.delete(kept[1])
    before = models_of(client, job)
    account = open_account(Settings(server.data_dir, server.data_dir))
    with account.database.writing() as session:
        session.scalars(select(Job).where(Job.id == job.id)).one().deaths = 2
    ProgressReader(account, job.id, JobFolder(server.data_dir / "jobs" / job.id)).record()
    with account.database.reading() as session:
        assert session.scalars(select(Job.deaths).where(Job.id == job.id)).one() == 2
    assert models_of(client, job) == before
    assert len(list(client.fine_tuning.jobs.checkpoints.list(job.id))) == 3


def models_of(client: openai.OpenAI, job: FineTuningJob) -> set[str]:
    return {model.id for model in client.models.list() if model.id.startswith(str(job.fine_tuned_model))}


def test_a_trainer_ends_although_the_clock_was_set_meanwhile(tmp_path: Path) -> None:
    """The system derives a process's start time from the clock; time synchronisation moves it by a second or two."""
    process = subprocess.Popen([sys.executable, "-c", TRAINER, str(tmp_path)])
    folder = JobFolder(tmp_path)
    wait_for(lambda: folder.read("trainer.json"))
    folder.write("trainer.json", {"pid": process.pid, "create_time": psutil.Process(process.pid).create_time() - 1.5})
    ending = threading.Thread(target=folder.end_trainer, daemon=True)
    ending.start()
    ending.join(30)
    assert not folder.trainer_alive
