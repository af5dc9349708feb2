"""429, 500, cut connections: nothing is lost, skipped or paid for twice. Real client, real server, failing proxy."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pandas as pd
import pytest

from reviewtune.analyzer.answer_reader import AnswerReader, Verdicts
from reviewtune.analyzer.model_classifier import ModelClassifier
from reviewtune.bulk.run import Work, run
from reviewtune.bulk.sources import find_sources
from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.data.chat.chat_files import lines_of, write_lines
from reviewtune.data.prompts import Prompt
from reviewtune.errors import JobError, ProviderError
from reviewtune.evaluation import results
from reviewtune.evaluation.evaluate import evaluate_model
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics_file import read_metrics
from reviewtune.evaluation.results import unusable
from reviewtune.evaluation.run_file import read_run
from reviewtune.finetuning.follow import follow
from reviewtune.finetuning.jobs import Order, create, finetune
from reviewtune.providers.client import connect
from reviewtune.providers.inference import CallPolicy, Request, ask
from tests.support.faulty_proxy import Fault, FaultyProxy, faulty
from tests.support.serving import ServerProcess
from tests.support.subjects import model_subject

CHAT, JOBS = "POST /v1/chat/completions", "POST /v1/fine_tuning/jobs"


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notes about jobs are in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[FaultyProxy]:
    with faulty(server.base_url) as proxy:
        yield proxy


@pytest.fixture
def provider(config: Config, proxy: FaultyProxy, base: str) -> ProviderConfig:
    changes = {"base_url": proxy.base_url, "base_model": base, "timeout": 180.0}  # a busy machine may take a minute
    return config.provider.model_copy(update=changes)


@pytest.fixture
def prompt(config: Config) -> Prompt:
    return Prompt.of(config)


def reviews(config: Config, n: int, word: str = "case") -> pd.DataFrame:
    labels = (list(config.data.labels) * n)[:n]
    texts = [f"{word} {i}: {label} and so on" for i, label in enumerate(labels)]
    return pd.DataFrame({"review_id": [f"r{i}" for i in range(n)], "text": texts, "label": labels, "hard": "0"})


def request_for(base: str, prompt: Prompt) -> Request:
    return Request(base, prompt.response_format, temperature=0, max_tokens=40, seed=1)


def order(config: Config, provider: ProviderConfig, prompt: Prompt, folder: Path, suffix: str) -> Order:
    for name, n in (("training", 22), ("validation", 11)):
        write_lines(folder / f"{name}.jsonl", lines_of(reviews(config, n, suffix), prompt))
    training = config.training.model_copy(update={"n_epochs": 1, "suffix": suffix})
    return Order(folder / "training.jsonl", folder / "validation.jsonl", provider, training)


def jobs_of(client: openai.OpenAI, order: Order) -> list[str]:
    return [job.id for job in client.fine_tuning.jobs.list() if (job.metadata or {}).get("run_key") == order.key]


def test_temporary_faults_are_retried_and_change_no_answer(
    provider: ProviderConfig, proxy: FaultyProxy, prompt: Prompt, config: Config, base: str
) -> None:
    """A tenth each of 429 with Retry-After, 500, cut connection, time-out and garbage."""
    chats = [prompt.messages(text) for text in reviews(config, 100)["text"]]
    request, terms = request_for(base, prompt), CallPolicy.of(provider, config.evaluation, config.prices)
    calm = ask(terms, request, chats, title="calm")
    proxy.plan_at_random(CHAT, 150, "429", "500", "cut after", "timeout", "garbage", share=0.1, seed=4)
    impatient = replace(terms, provider=provider.model_copy(update={"timeout": 2.0}))
    rough = ask(impatient, replace(request, repeat=1), chats, title="rough")
    assert [answer.text for answer in rough.answers] == [answer.text for answer in calm.answers]
    assert sum(answer.retries for answer in calm.answers) == 0
    assert sum(answer.retries for answer in rough.answers) == rough.requests - 100 >= 50
    assert not proxy.faults[CHAT]


def test_a_garbled_answer_after_other_faults_is_asked_again(
    provider: ProviderConfig, proxy: FaultyProxy, prompt: Prompt, config: Config, base: str
) -> None:
    """The few retries of a garbled answer are not used up by refusals and lost connections before it."""
    chats = [prompt.messages(text) for text in reviews(config, 2)["text"]]
    request, terms = request_for(base, prompt), CallPolicy.of(provider, config.evaluation, config.prices)
    proxy.plan(CHAT, "fine", "429", "cut after", "429", "429", "429", "garbage", "garbage", "fine")
    first, second = ask(terms, request, chats, title="rough").answers
    assert (first.retries, second.retries) == (0, 7)
    assert not second.unreadable
    assert second.text


def test_a_killed_command_may_be_continued_while_a_part_is_made_again(
    provider: ProviderConfig, proxy: FaultyProxy, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the part and the manifest, which then must not name the part of before."""
    work = bulk_work(provider, config, tmp_path, rows=2)
    garbled: list[Fault] = ["garbage"] * 5
    proxy.plan(CHAT, "fine", *garbled)
    assert run(work).unanswered == 1
    with monkeypatch.context() as killed:
        killed.setattr("reviewtune.bulk.manifest.Manifest.with_part", None)
        with pytest.raises(TypeError):
            run(work)
    assert run(work).failed == 0


def test_garbled_answers_alone_end_in_an_unusable_one(
    provider: ProviderConfig, proxy: FaultyProxy, prompt: Prompt, config: Config, base: str
) -> None:
    """Each of them may have been paid."""
    chats = [prompt.messages(text) for text in reviews(config, 2)["text"]]
    request, terms = request_for(base, prompt), CallPolicy.of(provider, config.evaluation, config.prices)
    garbled: list[Fault] = ["garbage"] * 20
    proxy.plan(CHAT, "fine", *garbled)
    asked = ask(terms, request, chats, title="rough")
    assert asked.answers[1].unreadable
    assert asked.requests == 1 + 5


def test_rows_without_an_answer_are_asked_again_by_the_same_command(
    provider: ProviderConfig, proxy: FaultyProxy, config: Config, tmp_path: Path
) -> None:
    """Their parts are made again; other rows come from the cache, other parts are not touched."""
    work = bulk_work(provider, config, tmp_path, rows=6)
    garbled: list[Fault] = ["garbage"] * 5
    proxy.plan(CHAT, "fine", "fine", "fine", *garbled)
    first = run(work)
    assert (first.rows, first.failed, first.unanswered) == (6, 1, 1)
    assert [(row.line, row.part) for row in first.failed_rows] == [(5, "part-00001.csv")]
    untouched, arrived = (work.folder / "part-00000.csv").stat().st_mtime_ns, proxy.arrived[CHAT]
    second = run(work)
    assert (second.rows, second.failed, second.unanswered, second.failed_rows) == (6, 0, 0, ())
    assert proxy.arrived[CHAT] == arrived + 1
    assert (work.folder / "part-00000.csv").stat().st_mtime_ns == untouched
    assert pd.read_csv(work.folder / "part-00001.csv")["label"].notna().all()
    assert run(work) == second


def bulk_work(provider: ProviderConfig, config: Config, folder: Path, rows: int) -> Work:
    """Requests in the order of the reviews, so that a planned fault meets a known one."""
    subject = model_subject(config, provider.model_copy(update={"concurrency": 1}))
    reader = AnswerReader(prompt=subject.prompt, verdicts=Verdicts(model=subject.model))
    table = folder / "new.csv"
    reviews(config, rows)[["text"]].to_csv(table, index=False)
    sources, _ = find_sources(table, config.data.columns, text_column="text", keep=())
    classifier = ModelClassifier(subject, reader)
    return Work(sources=sources, classifier=classifier, folder=folder / "out", kind="csv", part_rows=2)


def test_logprobs_are_returned_on_request(provider: ProviderConfig, config: Config, prompt: Prompt, base: str) -> None:
    request = replace(request_for(base, prompt), logprobs=True, top_logprobs=3)
    terms = CallPolicy.of(provider, config.evaluation, config.prices)
    (answer,) = ask(terms, request, [prompt.messages("late")], title="x").answers
    (plain,) = ask(terms, request_for(base, prompt), [prompt.messages("late")], title="x").answers
    assert answer.logprobs is not None
    assert "".join(token.token for token in answer.logprobs) == answer.text
    assert all(len(token.top_logprobs) == 3 for token in answer.logprobs)
    assert (plain.text, plain.logprobs) == (answer.text, None)


def test_permanent_faults_end_in_one_line_and_no_result(
    provider: ProviderConfig, proxy: FaultyProxy, config: Config
) -> None:
    always: list[Fault] = ["500"] * 500
    proxy.plan(CHAT, *always)
    subject = model_subject(config, provider.model_copy(update={"max_retries": 1}))
    message = r"HTTP 500.*run the same command again"
    with pytest.raises(ProviderError, match=message) as caught:
        evaluate_model(subject, reviews(config, 30), config.data, test_sha256="-")
    assert "\n" not in str(caught.value)


def test_a_second_evaluation_asks_nothing_and_writes_the_same_bytes(
    provider: ProviderConfig, proxy: FaultyProxy, config: Config, tmp_path: Path
) -> None:
    subject, test = model_subject(config, provider, kind="finetuned", trained_tokens=1000), reviews(config, 22)
    for name in ("cold", "warm"):
        result = evaluate_model(subject, test, config.data, test_sha256="-")
        results.write(result, tmp_path / name)
        results.write_run(result, tmp_path / name, "run")
    assert proxy.arrived[CHAT] == 22
    for name in ("metrics.json", "predictions.csv", "per_label.csv"):
        assert (tmp_path / "warm" / name).read_bytes() == (tmp_path / "cold" / name).read_bytes()
    cold, warm = (read_run(tmp_path / name) for name in ("cold", "warm"))
    assert (cold.requests, cold.times, warm.requests, warm.times) == (22, "measured now", 0, "recorded")
    timed = ("latency_p50", "latency_p95", "latency_p99", "reviews_per_second", "wall_seconds")
    assert [warm.numbers[name] for name in timed] == [cold.numbers[name] for name in timed]
    assert 0 < cold.numbers["latency_p50"] <= cold.numbers["latency_p95"] <= cold.numbers["latency_p99"]
    assert read_metrics(tmp_path / "warm").training_usd_at_gpt_4o_mini == 0.003


def test_an_unknown_model_is_one_line(provider: ProviderConfig, config: Config, prompt: Prompt) -> None:
    terms = CallPolicy.of(provider, config.evaluation, config.prices)
    with pytest.raises(ProviderError, match=r"HTTP 404: .*provider.base_model"):
        ask(terms, request_for("no-such-model", prompt), [prompt.messages("x")], title="x")


def test_unusable_answers_count_as_errors_and_are_listed(
    provider: ProviderConfig, config: Config, tmp_path: Path
) -> None:
    """Without a schema the base model babbles: no answer is a label, and none is dropped."""
    subject = model_subject(config, provider.model_copy(update={"structured_output": False}))
    result = evaluate_model(subject, reviews(config, 22), config.data, test_sha256="-")
    assert len(unusable(result)) == len(result.predictions) == result.metrics.invalid == 22
    assert result.metrics.accuracy.value == 0
    results.write(result, tmp_path)
    listed = pd.read_csv(tmp_path / "predictions.csv")
    assert (listed["predicted"] == INVALID).all()
    assert listed["error"].str.contains("finish reason: length").all()


def test_a_lost_answer_to_create_makes_no_second_job(
    provider: ProviderConfig,
    proxy: FaultyProxy,
    config: Config,
    prompt: Prompt,
    tmp_path: Path,
) -> None:
    placed = order(config, provider, prompt, tmp_path, "lost")
    proxy.plan(JOBS, "cut after")
    with pytest.raises(ProviderError), connect(provider) as client:
        finetune(client, placed)
    with connect(provider) as client:
        finetuned = finetune(client, placed)
        assert jobs_of(client, placed) == [finetuned.job.id]
        assert finetune(client, placed).model == finetuned.model  # and a third time: nothing new
        assert jobs_of(client, placed) == [finetuned.job.id]
    assert proxy.arrived[JOBS] == 1
    assert finetuned.curve["train_loss"].notna().all()


def test_a_create_that_never_arrived_is_made_by_the_next_run_alone(
    provider: ProviderConfig,
    proxy: FaultyProxy,
    config: Config,
    prompt: Prompt,
    tmp_path: Path,
) -> None:
    placed = order(config, provider, prompt, tmp_path, "never-arrived")
    for fault in ("500", "429", "cut before"):
        proxy.plan(JOBS, fault)
        with pytest.raises(ProviderError), connect(provider) as client:
            finetune(client, placed)
        assert proxy.arrived[JOBS] == 0
    with connect(provider) as client:
        finetuned = finetune(client, placed)
        assert jobs_of(client, placed) == [finetuned.job.id]
    assert proxy.arrived[JOBS] == 1


def test_faults_while_following_a_job_are_survived(
    provider: ProviderConfig,
    proxy: FaultyProxy,
    config: Config,
    prompt: Prompt,
    tmp_path: Path,
) -> None:
    placed = order(config, provider, prompt, tmp_path, "rough-ride")
    with connect(provider) as client:
        uploads = len(list(client.files.list(purpose="fine-tune")))
        proxy.plan("GET /v1/fine_tuning/jobs", "500", "cut after")
        proxy.plan("POST /v1/files", "500", "429")
        finetuned = finetune(client, placed)
        assert finetuned.job.status == "succeeded"
        assert len(list(client.files.list(purpose="fine-tune"))) == uploads + 2


def test_a_cancelled_job_is_an_error_and_the_next_run_makes_a_new_one(
    provider: ProviderConfig, config: Config, prompt: Prompt, tmp_path: Path
) -> None:
    placed = order(config, provider, prompt, tmp_path, "cancelled")
    long = placed.training.model_copy(update={"n_epochs": 5})
    placed = Order(placed.training_file, placed.validation_file, provider, long)
    with connect(provider) as client:
        job = create(client, placed)
        client.fine_tuning.jobs.cancel(job.id)
        assert follow(client, job).job.status == "cancelled"
        assert finetune(client, placed).job.id != job.id
        assert len(jobs_of(client, placed)) == 2


def test_bad_training_data_ends_in_one_line(
    provider: ProviderConfig, config: Config, prompt: Prompt, tmp_path: Path
) -> None:
    placed = order(config, provider, prompt, tmp_path, "too-few")
    lines = placed.training_file.read_text().splitlines()[:5]
    placed.training_file.write_text("\n".join(lines) + "\n")
    with pytest.raises(JobError, match=r"ended as failed: .*at least 10 examples"), connect(provider) as client:
        finetune(client, placed)
