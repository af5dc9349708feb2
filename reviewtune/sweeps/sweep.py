"""A sweep: check all combinations before job 0, hold the jobs together in one parent run, rank them at the end.

The same command again continues where the last one stopped, in the same runs; finished jobs are not done again. One
job is in run_job.py, the ranking in ranking.py.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from reviewtune.core.atomic_files import write_text
from reviewtune.core.config import Config, ProviderConfig, TrackingConfig
from reviewtune.core.config_loading import compose_text, from_hydra
from reviewtune.core.formatting import counted
from reviewtune.core.progress import SILENT, Progress
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError, JobError, ReviewtuneError
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.providers.client import connect
from reviewtune.sweeps import ranking_report
from reviewtune.sweeps.job import Job, Sweep, children_of, label_of, short_names
from reviewtune.sweeps.job_plots import draw_missing
from reviewtune.sweeps.plots import pictures
from reviewtune.sweeps.ranking import Result, Row, rank
from reviewtune.sweeps.run_job import prepare_job
from reviewtune.tracking import ui_pages
from reviewtune.tracking.queries import artifact_of, stored_run
from reviewtune.tracking.runs import Run, RunKey, RunRecord, open_run

Failed = tuple[str, str]  # a failed job: its combination and its message


def check_all(combinations: Sequence[Sequence[str]], *, progress: Progress = SILENT) -> list[Job]:
    """Compose every combination, split its data and write its chat files: all that can be checked without paying.

    Warnings about the chat files are reported, each of them once.

    Raises:
        ConfigError: naming each faulty combination and its fault; nothing has run by then.
    """
    jobs, faults = [], []
    warnings: dict[str, str] = {}
    for combination in combinations:
        name = f"[{' '.join(combination)}]"
        try:
            job = composed(combination)
            warnings = {**dict.fromkeys(prepare_job(job), name), **warnings}
            jobs.append(job)
        except ReviewtuneError as error:
            faults.append(f"{name} {error}")
    if faults:
        number = f"{len(faults)} of {counted(len(combinations), 'combination')} are faulty"
        raise ConfigError(f"{number}, no job was run: {' | '.join(faults)}")
    for warning, name in warnings.items():
        progress.message(f"warning: {name} {warning}")
    return jobs


def composed(overrides: Sequence[str]) -> Job:
    """The job of these overrides."""
    return Job(*_composition(tuple(overrides), project_root() / "conf"), tuple(overrides))


@cache
def _composition(overrides: tuple[str, ...], conf: Path) -> tuple[Config, str]:
    """Checked, and as text; cached, because the check and a launcher both need it."""
    from omegaconf import DictConfig, OmegaConf

    text = compose_text(overrides, conf)
    tree = OmegaConf.create(text)
    assert isinstance(tree, DictConfig)
    return from_hydra(tree), text


@contextmanager
def parent_run(
    title: str,
    varied: Sequence[str],
    jobs: Sequence[Job],
    planned: int,
    space: str = "",
    *,
    watched: bool = False,
    progress: Progress = SILENT,
) -> Iterator[None]:
    """The run that holds a sweep together. At its end: the ranked table, pictures, names and numbers for the UI.

    The same arguments again continue the same run.

    Args:
        title: the run's name.
        varied: the keys that differ between jobs.
        jobs: the jobs that are known beforehand; for a search one job, for its settings.
        planned: how many jobs there will be.
        space: the space of a search; empty for a grid.
        watched: another part reports how many jobs are done, so the jobs need not.
        progress: where to report.

    Raises:
        JobError: at the end, if jobs failed; the others are done and kept.
    """
    config = jobs[0].config
    named = [space, *varied, str(planned), *sorted({job.key for job in jobs})]
    key = hashlib.sha256("\n".join(named).encode()).hexdigest()
    run_key = RunKey(f"sweep:{key}", continues="any")
    tags: dict[str, object] = {"varied": " ".join(varied), "jobs": planned}
    with open_run(config.tracking, name=title, kind="sweep", tags=tags, run_key=run_key) as run:
        done = len([child for child in children_of(config.tracking, run.id) if child.status == "FINISHED"])
        Sweep(run.id, tuple(varied), planned, time.time(), done, watched).announce()
        if done:
            progress.message(f"{done} of {planned} jobs were done before and are not done again")
        if done < planned and not watched:  # jobs on other machines use the keys of those machines
            _refuse_incomplete([job.config.provider for job in jobs])
        yield
        folder = project_root() / ranking_report.reports_of(run_key.text)
        _conclude(run, config, short_names(varied), folder, progress)


def _refuse_incomplete(providers: Sequence[ProviderConfig]) -> None:
    """Refuse a missing key or endpoint once, before every job does. Building a client sends no request."""
    for provider in dict.fromkeys(providers):
        if provider.kind != "local":  # whose client would start a server
            with connect(provider):
                pass


def _conclude(run: Run, config: Config, names: Sequence[str], folder: Path, progress: Progress) -> None:
    children = children_of(config.tracking, run.id)
    finished = [child for child in children if child.status == "FINISHED"]
    failed = [(child.tags["combination"], child.tags.get("error", child.status)) for child in _failed(children)]
    results = [_result(config.tracking, child, names) for child in finished]
    rows = rank(results, seed=config.evaluation.seed, resamples=config.evaluation.resamples) if results else []
    _write(rows, failed, folder)
    progress.message(ranking_report.to_text(rows, failed))
    progress.message(f"table and pictures: {folder}; runs, in the MLflow UI (`make ui`): {run.id}")
    _annotate(run, config.tracking, rows, failed, folder)
    draw_missing(config.tracking, finished, progress=progress)
    if failed:
        hint = "fix what they report, then run the same command again: it does only what is missing"
        raise JobError(f"{len(failed)} of {counted(len(children), 'job')} failed; {hint}")


def _failed(children: Sequence[RunRecord]) -> list[RunRecord]:
    return [child for child in children if child.status != "FINISHED"]


def _result(tracking: TrackingConfig, child: RunRecord, names: Sequence[str]) -> Result:
    """A finished child, read back from the store: any process or command may have done the job."""
    import pandas as pd

    predictions = pd.read_csv(artifact_of(tracking, child.id, "predictions.csv"), dtype=str, keep_default_na=False)
    correct = (predictions["label"] == predictions["predicted"]).tolist()
    metrics = child.metrics
    return Result(
        run_id=child.id,
        variant={name: child.tags[f"variant.{name}"] for name in names if f"variant.{name}" in child.tags},
        accuracy=Interval(metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"]),
        f1=metrics["f1"],
        correct=dict(zip(predictions["review_id"], correct, strict=True)),
        test_sha256=child.tags["test_sha256"],
        model=child.tags["model"],
        training_reviews=int(metrics["training_reviews"]),
        trained_tokens=int(metrics["trained_tokens"]),
        cost_per_1k=metrics.get("cost_per_1k") or metrics.get("cost_per_1k_at_gpt_4o_mini"),
        train_loss=metrics.get("train_loss"),
        valid_loss=metrics.get("full_valid_loss", metrics.get("valid_loss")),
    )


def _write(rows: Sequence[Row], failed: Sequence[Failed], folder: Path) -> None:
    write_text(ranking_report.to_markdown(rows, failed), folder / "ranked.md")
    if rows:
        write_text(ranking_report.table_of(rows).to_csv(index=False, lineterminator="\n"), folder / "ranked.csv")
    for name, picture in pictures(rows).items():
        (folder / name).write_bytes(picture)


def _annotate(run: Run, tracking: TrackingConfig, rows: Sequence[Row], failed: Sequence[Failed], folder: Path) -> None:
    """Set names, descriptions and numbers of the runs, so that the UI's list and compare page show the winner."""
    for path in sorted(folder.iterdir()):
        run.artifact(path)
    best_runs = [result.run_id for row in rows[: ranking_report.COMPARED] for result in row.results[:1]]
    link = ui_pages.compare_link(ui_pages.prepare(tracking), best_runs) if len(best_runs) > 1 else ""
    run.tags({"mlflow.note.content": ranking_report.to_markdown(rows, failed, link)})
    if not rows:
        return
    run.table(ranking_report.table_of(rows), "ranked.json")
    best = rows[0]
    run.metrics({"best_accuracy": best.accuracy.value, "variants": len(rows), "failed_jobs": len(failed)})
    run.tags(
        {
            "best": label_of(best.variant),
            "best_run": best.results[0].run_id,
            "best_model": best.results[0].model,
            "verdict": ranking_report.verdict_line(rows),
        }
    )
    for row in rows:
        for result in row.results:
            _annotate_job(stored_run(tracking, result.run_id), row, result.variant, len(rows))


def _annotate_job(run: Run, row: Row, variant: Mapping[str, str], variants: int) -> None:
    run.rename(ranking_report.run_name(row, variant))
    verdict = row.verdict or ("best" if row.rank == 1 else None)
    run.tags({"rank": row.rank, "verdict": verdict, "mlflow.note.content": ranking_report.in_words(row, variants)})
    behind: dict[str, Any] = {"behind_best": row.behind.value if row.behind else 0.0 if row.rank == 1 else None}
    run.metrics({"rank": row.rank, **behind, "mean_accuracy": row.accuracy.value, "seed_spread": row.spread})
