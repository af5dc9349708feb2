"""Every table that a command prints, at 60, 80 and 120 columns: no word and no number is cut in two."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.fine_tuning.jobs.fine_tuning_job_checkpoint import Metrics
from rich.console import Console

from reviewtune.commands import check_data, jobs_output
from reviewtune.commands.cache import show_stats
from reviewtune.data_check.checks import CheckResult
from reviewtune.data_check.examine import DataCheck
from reviewtune.data_check.facts import Facts
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.comparison.console_report import print_comparison
from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.providers.answer_cache import open_store
from reviewtune.providers.completion import Answer
from reviewtune.providers.pricing import Usage
from reviewtune.sweeps.ranking_report import COLUMNS, SPARE, OnTest, to_text
from tests.evaluation.comparison.conftest import arms, comparison  # noqa: F401 - fixtures
from tests.sweeps.test_ranking import ranked, result

FRAMES = str.maketrans(dict.fromkeys("┃│┏┓┡┩└┘━┳╇┴─┌┐├┤┬┼╶╴", " "))
MODEL = "ft:smollm2-135m-instruct:local:a-team-with-a-long-name:b7d3c1e0a5f2:ckpt-step-1200"
WIDE = 400

Printed = Callable[[int], str]


def words(text: str) -> set[str]:
    return {word.strip(":") for word in text.translate(FRAMES).split()} - {""}


def missing(printed: Printed, width: int, besides: str = "") -> set[str]:
    """Words of the wide table that are not whole in the narrow one."""
    narrow = printed(width)
    assert max(map(len, narrow.splitlines())) >= 40
    return words(printed(WIDE)) - words(narrow) - words(besides)


@pytest.fixture(params=[60, 80, 120])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def job() -> FineTuningJob:
    known = dict[str, Any](
        id="ftjob-0123456789abcdef01234567", status="succeeded", created_at=1_760_000_000, finished_at=1_760_000_900,
        model="smollm2-135m-instruct", fine_tuned_model=MODEL, trained_tokens=123_456, training_file="file-1",
        validation_file="file-2", result_files=["file-result-1"], hyperparameters=None, metadata={"run_key": "f" * 64},
        error=None, estimated_finish=None, seed=13,
    )  # fmt: skip
    return FineTuningJob.model_construct(**known)


def of_jobs(show: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    def printed(width: int) -> str:
        monkeypatch.setattr(jobs_output, "PIPED_WIDTH", width)
        capsys.readouterr()
        show()
        return capsys.readouterr().out

    return printed


def test_the_tables_of_jobs(
    width: int, job: FineTuningJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = dict[str, Any](id="e", created_at=1_760_000_000, object="fine_tuning.job.event")
    message = "Step 1200/1200: training loss=0.31, accuracy=0.912"
    event = FineTuningJobEvent.model_construct(**known, level="info", message=message)
    metrics = Metrics(full_valid_loss=0.3125, full_valid_mean_token_accuracy=0.9125)
    known = dict[str, Any](step_number=1200, metrics=metrics, fine_tuned_model_checkpoint=MODEL)
    checkpoint = FineTuningJobCheckpoint.model_construct(**known)
    shows: list[Callable[[], None]] = [
        lambda: jobs_output.show_jobs([job, job]),
        lambda: jobs_output.show_job(job),
        lambda: jobs_output.show_events([event]),
        lambda: jobs_output.show_checkpoints([checkpoint]),
    ]
    for show in shows:
        printed = of_jobs(show, monkeypatch, capsys)
        assert {word for word in missing(printed, width) if len(word) <= width - 20} == set()


def test_the_cache_of_answers(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reviewtune.commands.cache.open_store", lambda: open_store(tmp_path / "answers.db"))
    with open_store(tmp_path / "answers.db") as store:
        for model in ("smollm2-135m-instruct", "ft:smollm2:local:team:b7d3c1e0:ckpt-step-1200"):
            store.keep(model, {model: Answer("late", "stop", Usage(1, 1))})

    def printed(width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        show_stats()
        return capsys.readouterr().out

    assert missing(printed, width, besides=f"{tmp_path}/answers.db") == set()


def test_check_data(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    says = "12 of 774 reviews have a near-duplicate: 'box-came_crushed' and 'Box came crushed'"
    result = CheckResult("near_duplicates", "near duplicates", "notice", says, "label one of them differently", Facts())
    check = cast("DataCheck", SimpleNamespace(file=SimpleNamespace(path=Path("reviews.csv")), results=[result] * 2))

    def printed(width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        check_data._show(check, to_stderr=False)
        return capsys.readouterr().out

    assert missing(printed, width) == set()


def test_compare(width: int, comparison: Comparison) -> None:  # noqa: F811
    def printed(width: int) -> str:
        console = Console(width=width, record=True, file=StringIO())
        print_comparison(comparison, console)
        return console.export_text()

    spare = "per s hard F1 12.0 100.0 50.0 75.0 90.0"
    assert {word for word in missing(printed, width, spare) if not word.replace(".", "").isdigit()} == set()


def test_a_sweep(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def printed(width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        return to_text(rows, [("prompt=long", "no such model")], on_test)

    rows = ranked(
        *(result(right, prompt=name, n_epochs="2") for name, right in (("short", 90), ("detailed-with-reasons", 70)))
    )
    on_test = OnTest({row.results[0].run_id: proportion(80, 100) for row in rows}, 100, 2, for_all=True)
    spare = " ".join(COLUMNS[key] for key in SPARE) + " 90.0 70.0 0.300 0.100 0.1000"
    assert missing(printed, width, spare) == set()
    assert "[82.6, 94.5]" in printed(width)
