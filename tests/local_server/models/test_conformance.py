"""Models: the base models, a fine-tune with its checkpoints, and deleting them."""

from typing import Any

import openai
import pytest
from openai.types import Model, ModelDeleted
from openai.types.fine_tuning import FineTuningJob

from tests.support.serving import ServerProcess, example, finished, upload
from tests.support.wire import checked

ASK: Any = [{"role": "user", "content": "x"}]


def test_list_and_retrieve(client: openai.OpenAI, tuned: FineTuningJob, base: str) -> None:
    raw: Any = client.models.with_raw_response.list().http_response.json()
    assert set(raw) == {"object", "data"}
    assert raw["object"] == "list"
    models = {entry["id"]: checked(Model, entry) for entry in raw["data"]}
    assert {"gemma-3-270m", "smollm2-135m-instruct", base, tuned.fine_tuned_model} <= set(models)
    assert f"{tuned.fine_tuned_model}:ckpt-step-12" in models
    for name, model in models.items():
        answer = client.models.with_raw_response.retrieve(name)
        assert checked(Model, answer.text) == model


@pytest.mark.parametrize("name", ["gpt-4o", "ft:tiny:local::00000000", "../../account.db", "a/b"])
def test_unknown_model(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist") as caught:
        client.models.retrieve(name)
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_base_models_cannot_be_deleted(client: openai.OpenAI, base: str) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete(base)


def test_tune_on_top_of_a_checkpoint(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    checkpoint = client.fine_tuning.jobs.checkpoints.list(tuned.id).data[-1].fine_tuned_model_checkpoint
    assert client.chat.completions.create(model=checkpoint, messages=ASK, max_completion_tokens=2).model == checkpoint
    file = upload(client, [example(index) for index in range(10)])
    job = client.fine_tuning.jobs.create(
        model=checkpoint, training_file=file.id, suffix="on-top", hyperparameters={"n_epochs": 1, "batch_size": 5}
    )
    ended = finished(client, job.id)
    assert (ended.status, ended.model) == ("succeeded", checkpoint)
    assert str(ended.fine_tuned_model).startswith("ft:tiny:local:on-top:")
    answer = client.chat.completions.create(model=str(ended.fine_tuned_model), messages=ASK, max_completion_tokens=2)
    assert answer.choices
    client.models.delete(str(ended.fine_tuned_model))


def test_tune_a_fine_tune_and_delete_it(client: openai.OpenAI, tuned: FineTuningJob, server: ServerProcess) -> None:
    assert tuned.fine_tuned_model is not None
    file = upload(client, [example(index) for index in range(10)])
    parameters: Any = {"hyperparameters": {"n_epochs": 1}}
    job = client.fine_tuning.jobs.create(model=tuned.fine_tuned_model, training_file=file.id, **parameters)
    again = finished(client, job.id)
    name = again.fine_tuned_model
    assert name is not None
    assert name.startswith("ft:tiny:local::")
    answer = client.chat.completions.create(model=name, messages=ASK, max_completion_tokens=3)
    assert answer.model == name

    folder = server.data_dir / "models" / again.id
    assert folder.exists()
    raw = client.models.with_raw_response.delete(name)
    gone = checked(ModelDeleted, raw.text)
    assert (gone.id, gone.deleted, gone.object) == (name, True, "model")
    assert not folder.exists()
    assert not [model.id for model in client.models.list() if model.id.startswith(name)]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=name, messages=ASK)
    assert client.fine_tuning.jobs.retrieve(again.id).fine_tuned_model == name
    assert list(client.fine_tuning.jobs.checkpoints.list(again.id)) == []
    events = list(client.fine_tuning.jobs.list_events(again.id))
    assert {event.type for event in events} == {"message"}  # the job's messages stay, its metrics are deleted
    assert events[0].message == "The job has successfully completed"
