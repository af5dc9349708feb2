"""Fine-tuning jobs: a complete one, its events and results, and what can happen before its end."""

import csv
import io
import re
import time
from typing import Any

import openai
import pytest
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from tests.support.serving import ServerProcess, example, finished, steps_of, upload, wait_for
from tests.support.wire import checked, listed

SUFFIX = ("user_provided_suffix",)  # sent by OpenAI, unknown to the package
STEPS = 12  # of the fixture `tuned`: 24 examples, batches of 8, 4 epochs


@pytest.fixture(scope="module")
def training_file(client: openai.OpenAI) -> FileObject:
    return upload(client, [example(index) for index in range(40)])


def test_finished_job(client: openai.OpenAI, tuned: FineTuningJob, base: str) -> None:
    raw = client.fine_tuning.jobs.with_raw_response.retrieve(tuned.id)
    job = checked(FineTuningJob, raw.text, SUFFIX)
    assert re.fullmatch(r"ftjob-[0-9a-zA-Z]+", job.id)
    assert (job.user_provided_suffix, job.metadata) == ("first try", {"purpose": "tuned"})  # type: ignore[attr-defined]
    assert (job.status, job.model, job.error, job.integrations) == ("succeeded", base, None, [])
    assert re.fullmatch(r"ft:tiny:local:first-try:[0-9a-z]{8}", job.fine_tuned_model or "")
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (4, 8)
    assert isinstance(job.hyperparameters.learning_rate_multiplier, float)  # was auto
    assert job.method is not None
    assert job.method.supervised is not None
    assert job.method.supervised.hyperparameters is not None
    assert job.method.supervised.hyperparameters.n_epochs == 4
    assert (job.trained_tokens or 0) > 0
    assert job.finished_at is not None
    assert job.finished_at >= job.created_at
    assert job.estimated_finish is None
    assert len(job.result_files) == 1


def test_message_events_in_order(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    page = client.fine_tuning.jobs.list_events(tuned.id, limit=7)
    assert page.has_more
    events = list(page)[::-1]
    assert len({event.id for event in events}) == len(events)
    raw: Any = client.fine_tuning.jobs.with_raw_response.list_events(tuned.id, limit=100).http_response.json()
    listed_events = listed(FineTuningJobEvent, raw, ends=False)
    assert [event.id for event in listed_events] == [event.id for event in events[::-1]]
    assert all(re.fullmatch(r"ftevent-[0-9a-zA-Z]+", event.id) for event in listed_events)
    assert [event.created_at for event in events] == sorted(event.created_at for event in events)
    messages = [event.message for event in events if event.type == "message"]
    expected = ["Created", "Validating training file", "Files validated", "started", "Fetching weights"]
    expected += ["Checkpoint created at step"] * 4 + ["New fine-tuned model created", "successfully completed"]
    assert len(messages) == len(expected)
    assert all(part in message for part, message in zip(expected, messages, strict=True)), messages


def test_metrics_events(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    assert steps_of(client, tuned.id) == list(range(1, STEPS + 1))
    events: list[Any] = list(client.fine_tuning.jobs.list_events(tuned.id, limit=100))
    metrics = [event for event in reversed(events) if event.type == "metrics"]
    every = {"step", "total_steps", "train_loss", "train_mean_token_accuracy"}
    ends = {"full_valid_loss", "full_valid_mean_token_accuracy"}
    for event in metrics:
        assert every <= set(event.data) <= every | ends | {"valid_loss", "valid_mean_token_accuracy"}
        assert (ends <= set(event.data)) == (event.data["step"] % 3 == 0)
        assert re.match(rf"Step {event.data['step']}/{STEPS}: training loss=\d+\.\d\d", event.message)


def test_the_last_three_checkpoints_are_kept(
    client: openai.OpenAI, tuned: FineTuningJob, server: ServerProcess
) -> None:
    raw: Any = client.fine_tuning.jobs.checkpoints.with_raw_response.list(tuned.id).http_response.json()
    checkpoints = listed(FineTuningJobCheckpoint, raw, ends=True)
    assert all(re.fullmatch(r"ftckpt_[0-9a-zA-Z]+", checkpoint.id) for checkpoint in checkpoints)
    assert {checkpoint.fine_tuning_job_id for checkpoint in checkpoints} == {tuned.id}
    assert [checkpoint.step_number for checkpoint in checkpoints] == [12, 9, 6]
    assert [checkpoint.fine_tuned_model_checkpoint for checkpoint in checkpoints] == [
        f"{tuned.fine_tuned_model}:ckpt-step-{step}" for step in (12, 9, 6)
    ]
    assert checkpoints[0].metrics.full_valid_loss is not None
    assert [c.step_number for c in client.fine_tuning.jobs.checkpoints.list(tuned.id, limit=1)] == [12, 9, 6]
    assert not list((server.data_dir / "models" / tuned.id).rglob("step-3"))


def test_result_file_is_plain_csv(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    (name,) = tuned.result_files
    file = client.files.retrieve(name)
    assert (file.filename, file.purpose) == ("step_metrics.csv", "fine-tune-results")
    rows = list(csv.DictReader(io.StringIO(client.files.content(name).text)))
    assert list(rows[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_a_new_job_has_the_shape(client: openai.OpenAI, base: str) -> None:
    """It fails at once, because it has too few examples; the answer has both `method` and legacy `hyperparameters`."""
    file = upload(client, [example(0)])
    raw = client.fine_tuning.jobs.with_raw_response.create(
        model=base, training_file=file.id, seed=77, hyperparameters={"n_epochs": 3, "learning_rate_multiplier": 0.5}
    )
    job = checked(FineTuningJob, raw.text, SUFFIX)
    assert (job.status, job.object, job.seed, job.model) == ("validating_files", "fine_tuning.job", 77, base)
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens, job.error) == (None, None, None, None)
    assert (job.result_files, job.training_file, job.validation_file) == ([], file.id, None)
    assert abs(job.created_at - time.time()) < 3600
    requested = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    assert job.hyperparameters.model_dump() == requested
    assert job.method is not None
    assert (job.method.type, job.method.dpo, job.method.reinforcement) == ("supervised", None, None)
    assert job.method.supervised is not None
    assert job.method.supervised.model_dump() == {"hyperparameters": requested}
    ended = client.fine_tuning.jobs.with_raw_response.retrieve(finished(client, job.id).id)
    assert checked(FineTuningJob, ended.text, SUFFIX).status == "failed"
    page: Any = client.fine_tuning.jobs.with_raw_response.list(limit=2).http_response.json()
    assert listed(FineTuningJob, page, SUFFIX, ends=False)[0].id == job.id


def test_pause_resume_cancel(
    client: openai.OpenAI, server: ServerProcess, base: str, training_file: FileObject
) -> None:
    jobs = client.fine_tuning.jobs
    job = jobs.create(model=base, training_file=training_file.id, hyperparameters={"n_epochs": 50, "batch_size": 1})
    behind = jobs.create(model=base, training_file=training_file.id, suffix="behind")
    wait_for(lambda: jobs.retrieve(job.id).status == "running")
    wait_for(lambda: server.trainer(job.id))
    assert wait_for(lambda: jobs.retrieve(behind.id).status == "queued")  # trainings run one at a time
    assert jobs.cancel(behind.id).status == "cancelled"

    paused: str = jobs.pause(job.id).status
    assert paused == "paused"
    wait_for(lambda: server.trainer(job.id) is None)
    with pytest.raises(openai.BadRequestError):
        jobs.pause(job.id)
    assert jobs.resume(job.id).status == "queued"
    wait_for(lambda: steps_of(client, job.id))
    assert jobs.retrieve(job.id).estimated_finish is not None or len(steps_of(client, job.id)) < 2

    cancelled = jobs.cancel(job.id)
    assert (cancelled.status, cancelled.fine_tuned_model) == ("cancelled", None)
    assert cancelled.finished_at is not None
    wait_for(lambda: server.trainer(job.id) is None)
    assert jobs.retrieve(job.id).status == "cancelled"
    assert not [model.id for model in client.models.list() if model.id.endswith(job.id[6:14])]
    for change in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(openai.BadRequestError) as caught:
            change(job.id)
        assert (caught.value.code, caught.value.param) == ("invalid_job_status", "fine_tune_id")


def test_too_few_examples_fail_the_job(client: openai.OpenAI, base: str) -> None:
    file = upload(client, [example(index) for index in range(9)])
    job = client.fine_tuning.jobs.create(model=base, training_file=file.id)
    assert job.status == "validating_files"
    job = finished(client, job.id)
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_n_examples", "training_file")
    assert job.error.message == "Training file has 9 example(s), but must have at least 10 examples"
    last = client.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    assert (last.level, last.message) == ("error", job.error.message)


def answered(content: object, **fields: object) -> dict[str, Any]:
    """An example with this assistant message."""
    answer = {"role": "assistant", "content": content, **fields}
    return {"messages": [{"role": "user", "content": "x"}, answer]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "x", "completion": "y"}, "line 4: Missing required parameter: 'messages'"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "line 4: Invalid value: 'robot'"),
        ({"messages": [{"role": "user", "content": "x"}]}, "line 4: there is no assistant message"),
        ({"messages": [{"role": "assistant", "content": 7}]}, "line 4: Invalid type for 'messages.0..content'"),
        ({"messages": [{"role": "assistant", "content": "x", "weight": 2}]}, "line 4: Invalid value: 2"),
        ({"messages": [{"role": "assistant", "content": "x"}], "colour": 1}, "line 4: Unknown parameter: 'colour'"),
        (
            {"messages": [{"role": "assistant", "content": "x"}], "tools": [{}]},
            "line 4: Missing required parameter: 'tools.0..type'",
        ),
        (answered("x", weight=0), "line 4: all assistant messages have the weight 0"),
        (answered(""), "line 4: the assistant message is empty"),
        (answered(" \n"), "line 4: the assistant message is empty"),
        (answered("\u200b\ufeff\u3164"), "line 4: the assistant message is empty"),
        (answered([]), "line 4: the assistant message is empty"),
        (answered([{"type": "text", "text": ""}]), "line 4: the assistant message is empty"),
        (answered(None), "line 4: Invalid 'messages.1..content': expected a string, but got null"),
        (answered(None, tool_calls=[{"id": "c"}]), "line 4: Missing.*'messages.1..tool_calls.0..type'"),
        (answered("x", refusal="no"), "line 4: Invalid 'messages.1..refusal'"),
    ],
)
@pytest.mark.parametrize("where", ["training_file", "validation_file"])
def test_malformed_lines_fail_the_job(client: openai.OpenAI, base: str, line: object, message: str, where: str) -> None:
    good = [example(index) for index in range(12)]
    broken = upload(client, [*good[:3], line, *good[3:]]).id
    names: Any = {"training_file": upload(client, good).id} | {where: broken}
    job = finished(client, client.fine_tuning.jobs.create(model=base, **names).id)
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_file_format", where)
    assert re.search(message, job.error.message)


ACCEPTED: list[tuple[dict[str, Any], dict[str, Any]]] = [  # a user's and an assistant's message
    ({"name": "Minsu"}, {"name": "bot"}),
    ({"content": [{"type": "text", "text": "late "}, {"type": "text", "text": "parcel"}]}, {}),
    ({}, {"content": [{"type": "text", "text": "delivery"}]}),
    ({}, {"refusal": None, "tool_calls": None, "function_call": None, "audio": None, "annotations": []}),
    ({}, {"tool_calls": []}),
    ({"role": "developer"}, {}),
]


def test_training_files_accept_the_messages_that_chats_accept(client: openai.OpenAI, base: str) -> None:
    """And one that says the same in another form is the same example: the trained models are equal."""
    lines: list[dict[str, Any]] = []
    for user, assistant in ACCEPTED:
        messages: Any = [{"role": "user", "content": "late parcel", **user}]
        messages.append({"role": "assistant", "content": "delivery", **assistant})
        lines.append({"messages": messages, "parallel_tool_calls": False, "tools": None})
        assert client.chat.completions.create(model=base, messages=messages, max_completion_tokens=1).choices
    plain = {"messages": [{"role": "user", "content": "late parcel"}, {"role": "assistant", "content": "delivery"}]}
    developer = {
        "messages": [{"role": "system", "content": "late parcel"}, {"role": "assistant", "content": "delivery"}]
    }
    same = [*[plain] * (len(lines) - 1), developer]
    jobs = [train_once(client, base, examples) for examples in (lines * 2, same * 2)]
    assert jobs[0].status == "succeeded", jobs[0].error
    assert jobs[0].trained_tokens == jobs[1].trained_tokens
    results = [client.files.content(job.result_files[0]).text for job in jobs]
    assert results[0] == results[1]


def train_once(client: openai.OpenAI, base: str, examples: list[dict[str, Any]]) -> FineTuningJob:
    once: Any = {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}
    file = upload(client, examples)
    return finished(client, client.fine_tuning.jobs.create(model=base, training_file=file.id, seed=1, **once).id)


def test_jobs_list_by_page_and_metadata(client: openai.OpenAI, base: str) -> None:
    """These jobs fail at once, because they have too few examples."""
    file = upload(client, [example(0)])
    labelled = [
        client.fine_tuning.jobs.create(model=base, training_file=file.id, metadata={"run key": "ä&=", "n": str(n)}).id
        for n in range(3)
    ]
    bare = client.fine_tuning.jobs.create(model=base, training_file=file.id).id
    assert len({*labelled, bare}) == 4
    page = client.fine_tuning.jobs.list(metadata={"run key": "ä&="}, limit=2)
    assert page.has_more
    assert [job.id for job in page] == labelled[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"run key": "ä&=", "n": "1"})] == [labelled[1]]
    assert not list(client.fine_tuning.jobs.list(metadata={"run key": "other"}))
    without: Any = client.get("/fine_tuning/jobs?metadata=null&limit=100", cast_to=object)
    assert bare in {job["id"] for job in without["data"]}
    assert not {*labelled} & {job["id"] for job in without["data"]}
    after = client.fine_tuning.jobs.list(after=labelled[1], limit=1)
    assert [job.id for job in after.data] == [labelled[0]]


def test_same_key_makes_one_job(client: openai.OpenAI, base: str) -> None:
    file = upload(client, [example(0)])

    def create(suffix: str) -> str:
        headers = {"Idempotency-Key": "key-1"}
        return client.fine_tuning.jobs.create(
            model=base, training_file=file.id, suffix=suffix, extra_headers=headers
        ).id

    assert create("a") == create("a")
    with pytest.raises(openai.BadRequestError) as caught:
        create("b")
    assert caught.value.code == "idempotency_key_reused"


def test_seed_follows_from_content_or_request(client: openai.OpenAI, base: str) -> None:
    file = upload(client, [example(0)])
    jobs = [client.fine_tuning.jobs.create(model=base, training_file=file.id, suffix="seeds") for _ in range(2)]
    assert jobs[0].seed == jobs[1].seed
    assert jobs[0].id != jobs[1].id
    assert client.fine_tuning.jobs.create(model=base, training_file=file.id, seed=7).seed == 7


def test_deleting_the_file_does_not_affect_the_job(client: openai.OpenAI, base: str) -> None:
    file = upload(client, [example(index) for index in range(9)])
    job = client.fine_tuning.jobs.create(model=base, training_file=file.id)
    client.files.delete(file.id)
    error = finished(client, job.id).error
    assert error is not None
    assert error.code == "invalid_n_examples"


def delete(client: openai.OpenAI, job_id: str) -> Any:
    return client.delete(f"/fine_tuning/jobs/{job_id}", cast_to=object)


def test_an_ended_job_without_models_can_be_deleted(
    client: openai.OpenAI, base: str, training_file: FileObject, server: ServerProcess
) -> None:
    """OpenAI keeps every job for ever; here that would fill the user's disk."""

    def create() -> FineTuningJob:
        parameters: Any = {"n_epochs": 1, "batch_size": 20}
        return client.fine_tuning.jobs.create(model=base, training_file=training_file.id, hyperparameters=parameters)

    first, second = create(), create()
    for job in (first, second):
        with pytest.raises(openai.BadRequestError, match="only a job that has ended"):
            delete(client, job.id)
    models = [str(finished(client, job.id).fine_tuned_model) for job in (first, second)]
    with pytest.raises(openai.BadRequestError, match=r"made the model .* delete it first"):
        delete(client, first.id)
    client.models.delete(models[0])
    assert delete(client, first.id) == {"id": first.id, "object": "fine_tuning.job", "deleted": True}
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.retrieve(first.id)
    assert not (server.data_dir / "jobs" / first.id).exists()
    again = create()
    assert again.id == first.id  # its id follows from its content; the second job still has the other id
    client.models.delete(str(finished(client, again.id).fine_tuned_model))
    client.models.delete(models[1])


def test_a_job_that_is_cancelled_and_deleted_stops(client: openai.OpenAI, base: str, server: ServerProcess) -> None:
    file = upload(client, [example(index) for index in range(60)])
    parameters: Any = {"n_epochs": 50, "batch_size": 1}
    job = client.fine_tuning.jobs.create(model=base, training_file=file.id, hyperparameters=parameters)
    wait_for(lambda: server.trainer(job.id))
    client.fine_tuning.jobs.cancel(job.id)

    def deleted() -> bool:
        try:
            for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id):
                client.models.delete(checkpoint.fine_tuned_model_checkpoint)
            return bool(delete(client, job.id))
        except openai.BadRequestError:  # its trainer is still ending
            return False

    wait_for(deleted)
    wait_for(lambda: server.trainer(job.id) is None)  # one that was just starting is stopped at the next check
    assert not (server.data_dir / "jobs" / job.id).exists()
    next_one = client.fine_tuning.jobs.create(model=base, training_file=file.id, hyperparameters={"n_epochs": 1})
    client.models.delete(str(finished(client, next_one.id).fine_tuned_model))
