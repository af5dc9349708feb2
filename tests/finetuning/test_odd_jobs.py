"""Fine-tuning at servers that leave out fields, statuses or parts of the protocol, or send them damaged."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.fine_tuning import FineTuningJobEvent

from reviewtune.commands.jobs_output import show_events
from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.terminal.progress import Silent
from reviewtune.errors import JobError, ProviderError, ReviewtuneError
from reviewtune.finetuning.follow import JobMonitor, loss_table
from reviewtune.finetuning.job_notes import is_finetuned
from reviewtune.finetuning.jobs import Finetuned, Order, finetune, place
from reviewtune.finetuning.loss_plot import training_curve
from reviewtune.providers.client import connect
from reviewtune.providers.pricing import Range
from tests.support.odd_server import Asked, OddServer, Reply, bodies, json_values, odd_server

MODEL = "some-model.ft-7"
EVENT = {
    "id": "e1",
    "object": "fine_tuning.job.event",
    "created_at": 5,
    "level": "info",
    "message": "step 1",
    "type": "metrics",
    "data": {"step": 1, "total_steps": 1, "train_loss": 0.5, "full_valid_loss": 0.4},
}
CHECKPOINT = {
    "id": "c1",
    "object": "fine_tuning.job.checkpoint",
    "created_at": 5,
    "step_number": 1,
    "fine_tuned_model_checkpoint": f"{MODEL}:1",
    "metrics": {"step": 1, "full_valid_loss": 0.4},
}
JOBS = "/v1/fine_tuning/jobs"
NO_SUCH_JOB = Reply(b'{"error": {"message": "Could not find fine tune: job-1"}}', status=404)


class JobServer:
    """Finishes each job at once; `replies` replaces the reply to a request, `changes` are of the job."""

    def __init__(self, server: OddServer) -> None:
        self.server = server
        self.jobs: list[dict[str, Any]] = []
        self.changes: dict[str, Any] = {}
        self.file: dict[str, Any] = {"id": "file-1", "object": "file"}
        server.routes |= {
            "GET /v1/files": lambda _: {"data": []},
            "POST /v1/files": lambda _: self.file,
            "GET /v1/files/file-1": lambda _: self.file,
            "GET /v1/files/result/content": lambda _: Reply(b"step,train_loss\n1,0.5\n"),
            f"POST {JOBS}": self.create,
            f"GET {JOBS}": lambda _: {"data": [job | self.changes for job in self.jobs]},
            f"GET {JOBS}/job-1/events": lambda _: {"data": [EVENT]},
            f"GET {JOBS}/job-1/checkpoints": lambda _: {"data": [CHECKPOINT]},
            f"GET {JOBS}/job-1": lambda _: self.jobs[0] | self.changes if self.jobs else NO_SUCH_JOB,
        }

    def create(self, asked: Asked) -> object:
        ended = {"status": "succeeded", "fine_tuned_model": MODEL, "result_files": ["result"], "created_at": 1}
        job = {"id": "job-1", "model": asked.body["model"], "metadata": asked.body["metadata"]}
        self.jobs = [job | ended]
        return self.jobs[0] | self.changes

    @property
    def created(self) -> int:
        return self.server.count(f"POST {JOBS}")


class Messages(Silent):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[JobServer]:
    monkeypatch.chdir(tmp_path)
    for module in ("http_client", "polling"):
        pause = "FIRST_PAUSE" if module == "http_client" else "SHORTEST_PAUSE"
        monkeypatch.setattr(f"reviewtune.providers.responses.{module}.{pause}", 0.001)
    monkeypatch.setattr("reviewtune.providers.responses.polling.NO_STATUS_SECONDS", 0.02)
    monkeypatch.setattr("reviewtune.finetuning.uploads.PROCESSING_SECONDS", 0.05)
    with odd_server() as odd:
        yield JobServer(odd)


def provider_at(config: Config, server: JobServer, **changes: object) -> ProviderConfig:
    standard = {"kind": "compatible", "base_url": server.server.base_url, "api_key_env": None, "max_retries": 0}
    return config.provider.model_copy(update={**standard, "timeout": 5.0, **changes})


def order_at(config: Config, server: JobServer, **changes: object) -> Order:
    Path("training.jsonl").write_text('{"messages": []}\n')
    return Order(Path("training.jsonl"), None, provider_at(config, server, **changes), config.training)


def tuned(config: Config, server: JobServer, messages: Messages | None = None, **changes: object) -> Finetuned:
    order = order_at(config, server, **changes)
    with connect(order.provider) as client:
        return finetune(client, order, progress=messages or Messages())


@pytest.mark.parametrize("file", [{}, {"status": None}, {"status": ""}, {"status": "processed", "bytes": None}])
def test_a_file_without_a_status_is_used_at_once(config: Config, server: JobServer, file: dict[str, Any]) -> None:
    server.file |= file
    messages = Messages()
    assert tuned(config, server, messages).model == MODEL
    assert server.server.count("GET /v1/files/file-1") == 0
    assert not [text for text in messages.texts if "file-1" in text]


def test_a_file_that_is_never_processed_is_waited_for_with_a_limit(config: Config, server: JobServer) -> None:
    server.file |= {"status": "pending"}
    messages = Messages()
    assert tuned(config, server, messages).model == MODEL
    assert any(text.startswith("file file-1: pending; waiting up to") for text in messages.texts)


def test_a_file_that_cannot_be_read_ends_the_job(config: Config, server: JobServer) -> None:
    server.file |= {"status": "error", "status_details": "line 3 is empty"}
    with pytest.raises(ProviderError, match="error: line 3 is empty"):
        tuned(config, server)
    assert server.created == 0


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("path", ["GET /v1/fine_tuning/jobs", "GET /v1/files", "POST /v1/fine_tuning/jobs"])
def test_a_server_without_fine_tuning_is_named(config: Config, server: JobServer, path: str, status: int) -> None:
    server.server.routes[path] = lambda _: Reply(b'{"detail": "Not Found"}', status=status)
    with pytest.raises(
        ProviderError, match=rf"HTTP {status}: Not Found; this provider has no fine-tuning \(http://"
    ) as it:
        tuned(config, server)
    assert "provider=local" in str(it.value)


def test_an_unknown_base_model_is_not_a_server_without_fine_tuning(config: Config, server: JobServer) -> None:
    body = b'{"error": {"message": "no such model", "code": "model_not_found"}}'
    server.server.routes[f"POST {JOBS}"] = lambda _: Reply(body, status=404)
    with pytest.raises(ProviderError, match=r"no such model; is provider\.base_model="):
        tuned(config, server)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"detail": "Not Found"}',
        b"<html><title>404 page not found</title></html>",
        b"Cannot GET /v1/fine_tuning/jobs/job-1",
        b'{"error": {"code": "404", "message": "Resource not found"}}',
    ],
)
def test_a_404_that_does_not_deny_the_job_gets_no_second_order(config: Config, server: JobServer, body: bytes) -> None:
    """A server that keeps no metadata finds its jobs by the notes alone."""
    server.changes = {"metadata": None}
    tuned(config, server)
    usual = server.server.routes[f"GET {JOBS}/job-1"]
    server.server.routes[f"GET {JOBS}/job-1"] = lambda _: Reply(body, status=404)
    with pytest.raises(JobError, match=r"HTTP 404 for fine-tuning job job-1, .*; correct the provider's address"):
        tuned(config, server)
    server.server.routes[f"GET {JOBS}/job-1"] = usual
    assert tuned(config, server).model == MODEL
    assert server.created == 1


def test_a_job_that_the_server_denies_is_created_again(config: Config, server: JobServer) -> None:
    tuned(config, server)
    server.jobs = []
    assert tuned(config, server).model == MODEL
    assert server.created == 2


def test_a_job_that_is_found_again_keeps_the_note_of_its_models(config: Config, server: JobServer) -> None:
    tuned(config, server)
    order = order_at(config, server)
    with connect(order.provider) as client:
        place(client, order)
    assert is_finetuned(MODEL, Path.cwd())


@pytest.mark.parametrize("missing", ["events", "checkpoints"])
def test_a_server_without_events_or_checkpoints_still_trains(config: Config, server: JobServer, missing: str) -> None:
    del server.server.routes[f"GET {JOBS}/job-1/{missing}"]
    server.server.routes[f"GET {JOBS}/job-1/{missing}"] = lambda _: Reply(b"{}", status=404)
    result = tuned(config, server)
    assert result.model == MODEL
    assert len(result.checkpoints) == (0 if missing == "checkpoints" else 1)


def test_a_server_that_refuses_the_filter_of_jobs_gets_no_second_order(config: Config, server: JobServer) -> None:
    replies = [Reply(b'{"detail": "unknown query parameter"}', status=422)]
    usual = server.server.routes[f"GET {JOBS}"]
    tuned(config, server)
    for note in Path(".work/finetune").glob("*.json"):
        note.unlink()
    server.server.routes[f"GET {JOBS}"] = lambda asked: replies.pop() if replies else usual(asked)
    assert tuned(config, server).model == MODEL
    assert server.created == 1


@pytest.mark.parametrize("status", [None, "", "?", "0"])
def test_a_job_that_never_reports_a_status_ends_with_the_reason(
    config: Config, server: JobServer, status: str | None
) -> None:
    server.changes = {"status": status, "fine_tuned_model": None}
    with pytest.raises(ProviderError, match="fine-tuning job job-1: the provider has reported no status"):
        tuned(config, server)
    server.changes = {}
    assert tuned(config, server).model == MODEL
    assert server.created == 1


def test_a_job_keeps_its_id_whatever_later_answers_say(config: Config, server: JobServer) -> None:
    """Else the note would name a job that does not exist, and the next command could not find the one it paid for."""
    server.server.routes[f"GET {JOBS}/job-1"] = lambda _: server.jobs[0] | {"id": 0}
    assert tuned(config, server).job.id == "job-1"
    server.jobs[0] |= {"metadata": None}
    assert tuned(config, server).model == MODEL
    assert server.created == 1


def test_a_refused_connection_is_reported_at_once(config: Config, server: JobServer) -> None:
    messages = Messages()
    provider = provider_at(config, server, base_url="http://127.0.0.1:9/v1", max_retries=12)
    with pytest.raises(ProviderError, match="cannot be reached"), connect(provider, progress=messages) as client:
        client.with_options(max_retries=1).models.list()
    assert len(messages.texts) == 1
    assert "http://127.0.0.1:9/v1/models cannot be reached (" in messages.texts[0]
    assert "; trying 4 more times, for up to " in messages.texts[0]


@pytest.mark.parametrize(("kind", "variable"), [("openai", "OPENAI_BASE_URL"), ("azure", "AZURE_OPENAI_ENDPOINT")])
def test_an_order_has_a_key_per_server_and_finds_jobs_of_earlier_releases(
    config: Config, server: JobServer, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str
) -> None:
    order = order_at(config, server, kind=kind, base_url=None)
    monkeypatch.delenv(variable, raising=False)
    default = order.key
    assert not order.earlier_keys
    monkeypatch.setenv(variable, server.server.base_url)
    monkeypatch.setenv("OPENAI_API_VERSION", "2026-01-01")
    assert order.key != default
    assert order.earlier_keys == (default,)
    if kind == "openai":
        server.create(Asked("POST", JOBS, {"model": "m", "metadata": {"run_key": default}}))
        assert tuned(config, server, kind=kind, base_url=None).model == MODEL
        assert server.created == 0


def test_a_fine_tuned_model_is_known_by_its_job_and_not_by_its_name(config: Config, server: JobServer) -> None:
    assert not is_finetuned(MODEL, Path.cwd())
    Path("params.yaml").touch()
    tuned(config, server)
    assert is_finetuned(MODEL, Path.cwd())
    assert is_finetuned(f"{MODEL}:1", Path.cwd())
    assert not is_finetuned("some-model", Path.cwd())


PROPERTIES = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
JOB: dict[str, Any] = {
    "id": "job-1",
    "model": "m",
    "status": "succeeded",
    "fine_tuned_model": MODEL,
    "result_files": ["result"],
}
JOB |= {"error": {}, "hyperparameters": {"n_epochs": 1}, "created_at": 1, "finished_at": 9, "seed": 1}
FILE: dict[str, Any] = {"id": "file-1", "bytes": 17, "filename": "x", "status": "processed", "purpose": "fine-tune"}
ROUTES: dict[str, Any] = {
    "GET /v1/files": {"data": [FILE]},
    "POST /v1/files": FILE,
    f"GET {JOBS}": {"data": [JOB], "has_more": False},
    f"POST {JOBS}": JOB,
    f"GET {JOBS}/job-1": JOB,
    f"GET {JOBS}/job-1/events": {"data": [EVENT], "has_more": False},
    f"GET {JOBS}/job-1/checkpoints": {"data": [CHECKPOINT], "has_more": False},
}


@pytest.mark.parametrize("name", [0, "x/y", "unknown"])
def test_a_created_job_that_the_server_does_not_find_is_named_with_its_note(
    config: Config, server: JobServer, name: object
) -> None:
    server.server.routes[f"POST {JOBS}"] = lambda _: {**JOB, "id": name}
    with pytest.raises(JobError, match=f"fine-tuning job {name}, which this order paid for: .* delete .* to create"):
        tuned(config, server)


@pytest.mark.parametrize("route", ROUTES)
@PROPERTIES
@given(data=st.data())
def test_no_object_of_an_account_ends_in_a_traceback(
    config: Config, server: JobServer, route: str, data: st.DataObject
) -> None:
    """The command ends with a model or with one line, and the next one, which does what it says, gets the model."""
    shutil.rmtree(".work", ignore_errors=True)  # each example begins with a new project
    usual = server.server.routes[route]
    reply = data.draw(bodies(ROUTES[route]))
    server.jobs = []
    server.server.routes[route] = lambda _: reply
    try:
        result = tuned(config, server)
    except ReviewtuneError as error:
        if advice := re.search("delete (.*) to create the job again", str(error)):
            Path(advice[1]).unlink()
        server.server.routes[route] = usual
        server.jobs = server.jobs or [JOB]
        result = tuned(config, server)
    finally:
        server.server.routes[route] = usual
    assert result.model
    assert list(result.curve.columns[:1]) == ["step"]


@PROPERTIES
@given(
    content=st.binary(max_size=40)
    | st.text(alphabet="step,\n1.-e\x00", max_size=40).map(str.encode)
    | st.lists(st.text(alphabet="0123456789.-einfa", max_size=5), min_size=1, max_size=4).map(
        lambda cells: ("step,train_loss\n" + "\n".join(f"{cell},1" for cell in cells)).encode()
    )
)
def test_any_result_file_is_a_curve(config: Config, server: JobServer, content: bytes) -> None:
    server.server.routes["GET /v1/files/result/content"] = lambda _: Reply(content)
    result = tuned(config, server)
    assert result.curve["step"].dtype == (int if len(result.curve) else result.curve["step"].dtype)
    with connect(provider_at(config, server)) as client:
        assert "step" in loss_table(client, JobMonitor(result.job))


@PROPERTIES
@given(data=json_values())
def test_the_data_of_any_event_are_numbers(config: Config, server: JobServer, data: object) -> None:
    event = EVENT | {"data": {"step": data, "train_loss": data}}
    server.server.routes[f"GET {JOBS}/job-1/events"] = lambda _: Reply(json.dumps({"data": [event]}).encode())
    assert tuned(config, server).model == MODEL


def test_the_text_of_an_event_is_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_events([FineTuningJobEvent.model_validate(EVENT | {"message": "loss [/b] [red]"})])
    assert "loss [/b] [red]" in capsys.readouterr().out


def test_a_result_file_without_a_training_loss_is_still_drawn(config: Config, server: JobServer) -> None:
    """The job is paid for when its file is read."""
    content = b"step,loss,full_valid_loss\n1,0.5,0.6\n2,0.4,\n"
    server.server.routes["GET /v1/files/result/content"] = lambda _: Reply(content)
    curve = tuned(config, server).curve
    assert curve["step"].tolist() == [1, 2]
    assert curve["train_loss"].isna().all()
    assert "full_valid_loss" not in curve
    assert training_curve(curve).startswith(b"\x89PNG")


def test_without_a_result_file_the_losses_come_from_the_events(config: Config, server: JobServer) -> None:
    server.changes = {"result_files": []}
    assert tuned(config, server).curve["train_loss"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("path", "status", "left"),
    [
        ("POST /v1/files", 429, 0.0),
        (f"POST {JOBS}", 400, 0.0),
        (f"POST {JOBS}", 500, 7.0),  # nobody knows whether there is a job now
    ],
)
def test_a_job_that_was_not_created_costs_nothing(
    config: Config, server: JobServer, path: str, status: int, left: float
) -> None:
    server.server.routes[path] = lambda _: Reply(b'{"error": {"message": "no"}}', status=status)
    booked = [0.0]

    def reserve(*, progress: object) -> Range:
        booked[0] += 7
        return Range(low=5, high=7)

    def release(cost: Range | None) -> None:
        booked[0] -= cost.high if cost else 0

    order = replace(order_at(config, server), reserve=reserve, release=release)
    with pytest.raises(ProviderError), connect(order.provider) as client:
        finetune(client, order)
    assert booked == [left]


@pytest.mark.parametrize("status", ["completed", "Succeeded", None])
def test_another_word_for_success_is_accepted(config: Config, server: JobServer, status: str | None) -> None:
    server.changes = {"status": status, "finished_at": 9}
    assert tuned(config, server).model == MODEL
    assert tuned(config, server).model == MODEL
    assert server.created == 1


def test_a_job_that_ended_with_another_word_for_failure_is_created_again(config: Config, server: JobServer) -> None:
    server.changes = {"status": "error", "finished_at": 9, "fine_tuned_model": None}
    with pytest.raises(JobError, match="job-1 ended as error"):
        tuned(config, server)
    server.changes = {}
    server.jobs[0] |= {"status": "error", "finished_at": 9, "fine_tuned_model": None}
    assert tuned(config, server).model == MODEL
    assert server.created == 2


def test_a_job_whose_creation_was_not_answered_is_found_without_metadata(config: Config, server: JobServer) -> None:
    """It exists and will be paid for, but this command never learned its id."""
    server.changes = {"metadata": None, "training_file": "file-1"}
    create = server.create

    def lost(asked: Asked) -> object:
        create(asked)
        return Reply(b"bad gateway", status=502)

    server.server.routes[f"POST {JOBS}"] = lost
    with pytest.raises(ReviewtuneError):
        tuned(config, server)
    server.server.routes[f"POST {JOBS}"] = create
    assert tuned(config, server).model == MODEL
    assert server.created == 1


def test_a_second_job_whose_creation_was_not_answered_is_found_too(config: Config, server: JobServer) -> None:
    """The first one failed, and its note says nothing of the second."""
    server.changes = {"metadata": None, "training_file": "file-1"}
    create, routes = server.create, server.server.routes

    def failing(asked: Asked) -> object:
        create(asked)
        server.jobs[0] |= {"status": "failed", "fine_tuned_model": None}
        return server.jobs[0] | server.changes

    routes[f"POST {JOBS}"] = failing
    with pytest.raises(JobError, match="job-1 ended as failed"):
        tuned(config, server)

    def lost(asked: Asked) -> object:
        first = server.jobs[0]
        create(asked)
        server.jobs = [first, server.jobs[0] | {"id": "job-2"}]
        return Reply(b"bad gateway", status=502)

    routes[f"POST {JOBS}"] = lost
    with pytest.raises(ReviewtuneError):
        tuned(config, server)
    routes[f"POST {JOBS}"] = create
    routes |= {
        f"GET {JOBS}/job-2": lambda _: server.jobs[1] | server.changes,
        f"GET {JOBS}/job-2/events": routes[f"GET {JOBS}/job-1/events"],
        f"GET {JOBS}/job-2/checkpoints": routes[f"GET {JOBS}/job-1/checkpoints"],
    }
    assert tuned(config, server).job.id == "job-2"
    assert server.created == 2


def test_a_refused_creation_is_simply_repeated(config: Config, server: JobServer) -> None:
    create = server.create
    server.server.routes[f"POST {JOBS}"] = lambda _: Reply(b'{"error": {"message": "no"}}', status=400)
    with pytest.raises(ReviewtuneError):
        tuned(config, server)
    server.server.routes[f"POST {JOBS}"] = create
    assert tuned(config, server).model == MODEL
