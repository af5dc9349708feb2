"""The end of a sweep: rank its jobs by the validation split, ask the winner about the test split, write all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reviewtune.core.atomic_files import write_text
from reviewtune.core.config.arms import EvaluationConfig
from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.formatting import counted
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.errors import JobError, ReviewtuneError
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.sweeps import ranking_report
from reviewtune.sweeps.job import children_of, job_of, label_of
from reviewtune.sweeps.job_plots import draw_missing
from reviewtune.sweeps.plots import pictures
from reviewtune.sweeps.ranking import Result, Row, rank
from reviewtune.sweeps.ranking_report import OnTest
from reviewtune.sweeps.run_job import prepare_job
from reviewtune.sweeps.scoring import ACCURACY, TEST_ACCURACY, VALIDATION, interval_of, is_done, score_of, score_on_test
from reviewtune.tracking import ui_pages
from reviewtune.tracking.queries import artifact_of, stored_run
from reviewtune.tracking.runs import Run, RunRecord

Failed = tuple[str, str]  # a failed job: its combination and its message
NO_RUN = "it has no run in MLflow; its output says why"
SHOWN = 3  # run ids in a message


@dataclass(frozen=True)
class Ending:
    """What the end of a sweep needs to know.

    Args:
        run: the sweep's run.
        tracking: where it is stored.
        evaluation: seed and resamples of the ranking.
        names: short names of the varied settings.
        folder: where to write tables and pictures.
        planned: the combination of each job by its key; empty for a search, whose jobs are not known beforehand.
        test_all: ask all jobs' models about the test split, not only the winner's.
        progress: where to report.
    """

    run: Run
    tracking: TrackingConfig
    evaluation: EvaluationConfig
    names: Sequence[str]
    folder: Path
    planned: Mapping[str, str] = field(default_factory=dict)
    test_all: bool = False
    progress: Progress = SILENT


def conclude(ending: Ending) -> None:
    """Rank the jobs, score the winner on the test split, write the tables, name the runs.

    Raises:
        JobError: jobs failed; the others are ranked.
    """
    tracking, folder, progress = ending.tracking, ending.folder, ending.progress
    children = children_of(tracking, ending.run.id)
    done = [child for child in children if is_done(child)]
    failed = _failed(children, ending.planned)
    _report_unranked(children, progress)
    settings = ending.evaluation
    results = [_result(tracking, child, ending.names) for child in done]
    rows = rank(results, seed=settings.seed, resamples=settings.resamples) if results else []
    on_test = _ask_on_test(rows, done, len(failed), ending)
    _write(rows, failed, on_test, folder)
    _draw(rows, folder, progress)
    progress.message(ranking_report.to_text(rows, failed, on_test))
    progress.message(f"table and pictures: {folder}; runs, in the MLflow UI (`make ui`): {ending.run.id}")
    _annotate(rows, failed, on_test, ending)
    draw_missing(tracking, done, progress=progress)
    if failed:
        hint = "fix what they report, then run the same command again: it does only what is missing"
        raise JobError(f"{len(failed)} of {counted(len(done) + len(failed), 'job')} failed; {hint}")


def _failed(children: Sequence[RunRecord], planned: Mapping[str, str]) -> list[Failed]:
    """The jobs whose run did not end well, and those without a run: MLflow did not answer when they started."""
    runs = [child for child in children if child.status != "FINISHED"]
    missing = planned.keys() - {child.tags["job_key"] for child in children}
    without = [(combination, NO_RUN) for key, combination in planned.items() if key in missing]
    return [(run.tags["combination"], run.tags.get("error", run.status)) for run in runs] + without


def _report_unranked(children: Sequence[RunRecord], progress: Progress) -> None:
    """Jobs of an earlier version were scored on the test split, by which nothing must be chosen."""
    others = [child.id[:12] for child in children if child.status == "FINISHED" and not is_done(child)]
    if others:
        ids = ", ".join(others[:SHOWN]) + ", ..." * (len(others) > SHOWN)
        progress.message(
            f"not ranked: {counted(len(others), 'finished job')} of an earlier version, without a validation accuracy "
            f"(runs {ids}); run their combinations again: the fine-tunes are found, only the answers are requested"
        )


def _result(tracking: TrackingConfig, child: RunRecord, names: Sequence[str]) -> Result:
    """A finished child, read back from the store: any process or command may have done the job."""
    import pandas as pd

    table = artifact_of(tracking, child.id, f"{VALIDATION}/predictions.csv")
    predictions = pd.read_csv(table, dtype=str, keep_default_na=False)
    correct = (predictions["label"] == predictions["predicted"]).tolist()
    metrics = child.metrics
    return Result(
        run_id=child.id,
        variant={name: child.tags[f"variant.{name}"] for name in names if f"variant.{name}" in child.tags},
        accuracy=interval_of(child, ACCURACY),
        macro_f1=metrics[f"{VALIDATION}_macro_f1"],
        correct=dict(zip(predictions["review_id"], correct, strict=True)),
        valid_sha256=child.tags["valid_sha256"],
        model=child.tags["model"],
        training_reviews=int(metrics["training_reviews"]),
        trained_tokens=int(metrics["trained_tokens"]),
        cost_per_1k=metrics.get(f"{VALIDATION}_cost_per_1k"),
        train_loss=metrics.get("train_loss"),
        valid_loss=metrics.get("full_valid_loss", metrics.get("valid_loss")),
        cost_per_1k_at_gpt_4o_mini=metrics.get(f"{VALIDATION}_cost_per_1k_at_gpt_4o_mini"),
    )


def _ask_on_test(rows: Sequence[Row], done: Sequence[RunRecord], failed: int, ending: Ending) -> OnTest:
    """Only after the ranking, and of the winner only unless all were requested: nothing is chosen by the test split."""
    if not rows:
        return OnTest()
    if failed and not ending.test_all:  # one of them may be the winner once it has run
        return OnTest(fault=f"{counted(failed, 'job')} failed; it is asked when all are done")
    by_id = {child.id: child for child in done}
    wanted = [result.run_id for row in rows for result in row.results] if ending.test_all else [_winner(rows)]
    scores, sizes, faults = {}, [0], {}
    for run_id in wanted:
        try:
            scores[run_id], size = _test_score(by_id[run_id], ending)
            sizes.append(size)
        except ReviewtuneError as error:  # the ranking is complete without it
            faults[run_id] = f"{error}; `reviewtune apply {run_id[:12]}` runs the pipeline with it"
    asked = {child.id for child in done if TEST_ACCURACY in child.metrics} | set(scores)
    for run_id, fault in faults.items():
        if run_id != _winner(rows):
            ending.progress.message(f"test split: job {by_id[run_id].tags['combination']} was not asked: {fault}")
    return OnTest(scores, max(sizes), len(asked), ending.test_all, faults.get(_winner(rows), ""))


def _winner(rows: Sequence[Row]) -> str:
    """The run of the winning variant's best job."""
    return rows[0].results[0].run_id


def _test_score(child: RunRecord, ending: Ending) -> tuple[Interval, int]:
    """The job's accuracy on the test split, and the number of reviews; asked now if no earlier command did."""
    if score := score_of(child, TEST_ACCURACY):
        return score, int(child.metrics["n"])
    job = job_of(child)
    prepare_job(job)
    metrics = score_on_test(job, child, ending.tracking, progress=ending.progress).metrics
    return metrics.accuracy, metrics.n


def _write(rows: Sequence[Row], failed: Sequence[Failed], on_test: OnTest, folder: Path) -> None:
    write_text(ranking_report.to_markdown(rows, failed, on_test=on_test), folder / "ranked.md")
    if rows:
        table = ranking_report.table_of(rows, on_test)
        write_text(table.to_csv(index=False, lineterminator="\n"), folder / "ranked.csv")


def _draw(rows: Sequence[Row], folder: Path, progress: Progress) -> None:
    """The ranking is complete without pictures, so that a fault in one is only reported."""
    try:
        for name, picture in pictures(rows).items():
            (folder / name).write_bytes(picture)
    except Exception as error:
        progress.message(f"warning: the sweep's pictures could not be drawn: {error!r}")


def _annotate(rows: Sequence[Row], failed: Sequence[Failed], on_test: OnTest, ending: Ending) -> None:
    """Set names, descriptions and numbers of the runs, so that the UI's list and compare page show the winner."""
    run, tracking = ending.run, ending.tracking
    for path in sorted(ending.folder.iterdir()):
        run.artifact(path)
    best_runs = [result.run_id for row in rows[: ranking_report.COMPARED] for result in row.results[:1]]
    experiment = ui_pages.prepare(tracking)
    link = ui_pages.compare_link(experiment, best_runs) if len(best_runs) > 1 else ""
    run.tags({"mlflow.note.content": ranking_report.to_markdown(rows, failed, link, on_test)})
    if not rows:
        return
    run.table(ranking_report.table_of(rows, on_test), "ranked.json")
    best = rows[0]
    numbers = {"variants": len(rows), "failed_jobs": len(failed), "jobs_asked_on_test": on_test.asked}
    run.metrics({**_numbers("best_validation_accuracy", best.accuracy), **numbers})
    run.metrics(_numbers("test_accuracy", on_test.scores.get(_winner(rows))))
    run.tags(
        {
            "best": label_of(best.variant),
            "best_run": _winner(rows),
            "best_model": best.results[0].model,
            "verdict": ranking_report.verdict_line(rows),
        }
    )
    for row in rows:
        for result in row.results:
            _annotate_job(stored_run(tracking, result.run_id), row, result.variant, len(rows))


def _numbers(name: str, score: Interval | None) -> dict[str, float]:
    return score.named(name) if score else {}


def _annotate_job(run: Run, row: Row, variant: Mapping[str, str], variants: int) -> None:
    run.rename(ranking_report.run_name(row, variant))
    verdict = row.verdict or ("best" if row.rank == 1 else None)
    run.tags({"rank": row.rank, "verdict": verdict, "mlflow.note.content": ranking_report.in_words(row, variants)})
    behind: dict[str, Any] = {"behind_best": row.behind.value if row.behind else 0.0 if row.rank == 1 else None}
    mean = {"mean_validation_accuracy": row.accuracy.value, "seed_spread": row.spread}
    run.metrics({"rank": row.rank, **behind, **mean})
