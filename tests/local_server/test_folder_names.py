"""The account and a base model in folders whose names mean something in a URL: training, chatting, deleting."""

import shutil
from pathlib import Path

import openai
import pytest

from tests.support.serving import example, finished, running, upload

NAMES = ["100%25 mine?a=b#1 김철수 \u1100\u1161", 'it\'s; "quoted" \\ & $HOME']


@pytest.mark.parametrize("name", NAMES)
def test_any_legal_folder_name_works(tmp_path: Path, tiny_model: Path, name: str) -> None:
    base = Path(shutil.copytree(tiny_model, tmp_path / "models" / name))
    (tmp_path / name).mkdir()
    with running(tmp_path / name / "data", "--base-model", str(base)) as server:
        file = upload(server.client, [example(index) for index in range(10)], name="a b#1?.jsonl")
        assert server.client.files.retrieve(file.id).filename == "a b#1?.jsonl"
        hyperparameters = {"n_epochs": 1, "batch_size": 8}
        job = server.client.fine_tuning.jobs.create(
            model=str(base),
            training_file=file.id,
            hyperparameters=hyperparameters,  # type: ignore[arg-type]
        )
        job = finished(server.client, job.id)
        assert job.status == "succeeded", job.error
        model = str(job.fine_tuned_model)
        assert server.client.models.retrieve(model).id == model
        assert server.client.models.retrieve(str(base)).id == str(base)
        answer = server.client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "x"}], max_completion_tokens=1
        )
        assert answer.model == model
        assert server.client.models.delete(model).deleted
        with pytest.raises(openai.NotFoundError):
            server.client.models.retrieve(model)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "models"])
