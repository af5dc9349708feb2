"""A sweep: all combinations checked before job 0, one parent run that holds the jobs together, a ranking at the end.

The same command again goes on where the last one stopped, in the same runs; what is done is not done again. Each job
is in sweep_job.py, who is better in ranking.py.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from reviewtune.core.atomic_files import write_text
from reviewtune.core.config import Config, ProviderConfig, TrackingConfig
from reviewtune.core.config_loading import compose_text, from_hydra
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError, JobError, ReviewtuneError
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.providers.client import connect
from reviewtune.sweeps import ranking_report as sweeps_ranking_report
from reviewtune.sweeps.job import Job, Sweep, short_names
from reviewtune.sweeps.job_plots import draw_missing
from reviewtune.sweeps.plots import pictures
from reviewtune.sweeps.ranking import Result, Row, rank
from reviewtune.sweeps.ranking_report import reports_of, run_name, to_markdown, verdict_line
from reviewtune.sweeps.run_job import prepare_job
from reviewtune.tracking import ui_pages
from reviewtune.tracking.queries import artifact_of, find_runs, stored_run
from reviewtune.tracking.runs import Run, RunKey, RunRecord, open_run


def check_all(combinations: Sequence[Sequence[str]]) -> list[Job]:
    """Compose every combination, split its data and write its chat files: all that can be checked without paying.

    Raises:
        ConfigError: naming each combination that is faulty and why; nothing has run by then.
    """
    jobs, faults = [], []
    for combination in combinations:
        try:
            jobs.append(composed(combination))
            prepare_job(jobs[-1])
        except ReviewtuneError as error:
            faults.append(f"[{' '.join(combination)}] {error}")
    if faults:
        number = f"{len(faults)} of {len(combinations)} combinations are faulty"
        raise ConfigError(f"{number}, no job was run: {' | '.join(faults)}")
    return jobs


def composed(overrides: Sequence[str]) -> Job:
    """The job of these overrides."""
    return Job(*_composition(tuple(overrides)), tuple(overrides))


@cache
def _composition(overrides: tuple[str, ...]) -> tuple[Config, str]:
    """Checked, and as text. Once a program: it takes 0.25 s, as much as all else in a short job."""
    from omegaconf import DictConfig, OmegaConf

    text = compose_text(overrides, project_root() / "conf")
    tree = OmegaConf.create(text)
    assert isinstance(tree, DictConfig)
    return from_hydra(tree), text


@contextmanager
def parent_run(
    title: str, varied: Sequence[str], jobs: Sequence[Job], planned: int, space: str = "", *, watched: bool = False
) -> Iterator[None]:
    """The run that holds a sweep together. At its end: the ranked table, pictures, names and numbers for the UI.

    `jobs` are those known beforehand (of a search one, for its settings), `planned` is how many there will be, `space`
    what a search searches; where jobs are `watched` they need not tell how far the sweep is. The same ones again
    continue the sweep.

    Raises:
        JobError: at the end, where jobs failed; the others are done and kept.
    """
    config = jobs[0].config
    named = [space, *varied, str(planned), *sorted({job.key for job in jobs})]
    key = hashlib.sha256("\n".join(named).encode()).hexdigest()
    run_key = RunKey(f"sweep:{key}", continues="any")
    tags: dict[str, object] = {"varied": " ".join(varied), "jobs": planned}
    with open_run(config.tracking, name=title, kind="sweep", tags=tags, run_key=run_key) as run:
        done = len([child for child in _children(config.tracking, run.id) if child.status == "FINISHED"])
        Sweep(run.id, tuple(varied), planned, time.time(), done, watched).announce()
        if done:
            print(f"{done} of {planned} jobs were done before and are not done again", flush=True)
        if done < planned and not watched:  # elsewhere the keys are those of the machines there
            _refuse_incomplete([job.config.provider for job in jobs])
        yield
        _conclude(run, config, short_names(varied), project_root() / reports_of(run_key.text))


def _refuse_incomplete(providers: Sequence[ProviderConfig]) -> None:
    """No key, or no endpoint: each job would say it again. A client alone asks nothing; the local one has a server."""
    for provider in dict.fromkeys(providers):
        if provider.kind != "local":
            with connect(provider):
                pass


def _conclude(run: Run, config: Config, names: Sequence[str], folder: Path) -> None:
    children = _children(config.tracking, run.id)
    results = [_result(config.tracking, child, names) for child in children if child.status == "FINISHED"]
    failed = [(child.tags["combination"], child.tags.get("error", child.status)) for child in _failed(children)]
    rows = rank(results, seed=config.evaluation.seed, resamples=config.evaluation.resamples) if results else []
    _write(rows, failed, folder)
    sweeps_ranking_report.show(rows, failed)
    print(f"table and pictures: {folder}; runs, in the MLflow UI (`make ui`): {run.id}")
    _annotate(run, config.tracking, rows, failed, folder)
    draw_missing(config.tracking, [child for child in children if child.status == "FINISHED"])
    if failed:
        hint = "mend what they say, then run the same command again: it does only what is missing"
        raise JobError(f"{len(failed)} of {len(children)} jobs failed; {hint}")


def _children(tracking: TrackingConfig, parent: str) -> list[RunRecord]:
    return find_runs(tracking, f"tags.`mlflow.parentRunId` = '{parent}'")


def _failed(children: Sequence[RunRecord]) -> list[RunRecord]:
    return [child for child in children if child.status != "FINISHED"]


def _result(tracking: TrackingConfig, child: RunRecord, names: Sequence[str]) -> Result:
    """A finished child, read back from the store, so that it does not matter which process or command did the job."""
    import pandas as pd

    predictions = pd.read_csv(artifact_of(tracking, child.id, "predictions.csv"), dtype=str, keep_default_na=False)
    right = (predictions["label"] == predictions["predicted"]).tolist()
    metrics = child.metrics
    paid, yardstick = metrics.get("cost_per_1k"), metrics.get("cost_per_1k_at_gpt_4o_mini")
    return Result(
        run_id=child.id,
        variant={name: child.tags[f"variant.{name}"] for name in names if f"variant.{name}" in child.tags},
        accuracy=Interval(metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"]),
        f1=metrics["f1"],
        correct=dict(zip(predictions["review_id"], right, strict=True)),
        test_sha256=child.tags["test_sha256"],
        model=child.tags["model"],
        training_reviews=int(metrics["training_reviews"]),
        trained_tokens=int(metrics["trained_tokens"]),
        cost_per_1k=paid or yardstick,
        train_loss=metrics.get("train_loss"),
        valid_loss=metrics.get("full_valid_loss", metrics.get("valid_loss")),
    )


def _write(rows: Sequence[Row], failed: Sequence[tuple[str, str]], folder: Path) -> None:
    write_text(to_markdown(rows, failed), folder / "ranked.md")
    if rows:
        write_text(sweeps_ranking_report.table_of(rows).to_csv(index=False, lineterminator="\n"), folder / "ranked.csv")
    for name, picture in pictures(rows).items():
        (folder / name).write_bytes(picture)


def _annotate(
    run: Run, tracking: TrackingConfig, rows: Sequence[Row], failed: Sequence[tuple[str, str]], folder: Path
) -> None:
    """The runs' names, descriptions and numbers, so that the UI's list and its compare page say who won."""
    for path in sorted(folder.iterdir()):
        run.artifact(path)
    best_runs = [result.run_id for row in rows[: sweeps_ranking_report.COMPARED] for result in row.results[:1]]
    link = ui_pages.compare_link(ui_pages.prepare(tracking), best_runs) if len(best_runs) > 1 else ""
    run.tags({"mlflow.note.content": to_markdown(rows, failed, link)})
    if not rows:
        return
    run.table(sweeps_ranking_report.table_of(rows), "ranked.json")
    best = rows[0]
    run.metrics({"best_accuracy": best.accuracy.value, "variants": len(rows), "failed_jobs": len(failed)})
    won = {
        "best": sweeps_ranking_report.name_of(best.variant),
        "best_run": best.results[0].run_id,
        "verdict": verdict_line(rows),
    }
    run.tags({**won, "best_model": best.results[0].model})
    for row in rows:
        for result in row.results:
            _place(stored_run(tracking, result.run_id), row, result, len(rows))


def _place(run: Run, row: Row, result: Result, variants: int) -> None:
    run.rename(run_name(row, result.variant))
    said = {"verdict": row.verdict or ("best" if row.rank == 1 else None)}
    run.tags({"rank": row.rank, **said, "mlflow.note.content": sweeps_ranking_report.in_words(row, variants)})
    behind: dict[str, Any] = {"behind_best": row.behind.value if row.behind else 0.0 if row.rank == 1 else None}
    run.metrics({"rank": row.rank, **behind, "mean_accuracy": row.accuracy.value, "seed_spread": row.spread})
