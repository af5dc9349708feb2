"""Which runs must stay, because something refers to them: files, commits, experiments, tags, sweeps.

A run is kept if one of these holds, as `kept_ids` decides:

- a run.json names it: of the workspace, of a running experiment, of any commit, stash or DVC experiment;
- the last report of `reviewtune rebase` names it, which `reviewtune promote` takes;
- a registered model's version with an alias, such as `champion`, names it: applications use that;
- it has the tag `keep`, or it is an audit, for which people labelled reviews;
- it has the reports of `reviewtune monitor`, of which `reviewtune retrain --if-needed` asks the last one;
- it is open: its process runs, or was started on a different machine within the last week;
- it is a kept sweep (the newest ones, by default all), or a finished job of one;
- it belongs to a different workspace on a shared MLflow server, whose commits cannot be seen from here;
- it is the fine-tune of a kept run's model, or a comparison in which a kept run took part.
"""

import math
import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.project import ProjectPaths
from reviewtune.tracking import git
from reviewtune.tracking.process import may_run, workspace
from reviewtune.tracking.registry import RegisteredVersion
from reviewtune.tracking.run_file import read_run_id
from reviewtune.tracking.runs import RunRecord

RUN_ID = re.compile(r'"mlflow_run_id":\s*"([0-9a-f]{32})"')
RUN_FILES = ("models/run.json", "reports/**/run.json")
NOT_REPEATABLE = ("audit", "monitoring")  # kinds of runs whose content no command can make again
REBASE = "`reviewtune rebase` writes it again; without it, the new model's runs can be removed"
PASS_ID_LENGTH = 12  # the tag `passes` holds the first characters of the comparisons' run ids


def kept_ids(
    runs: Sequence[RunRecord], *, named: AbstractSet[str], others: AbstractSet[str], sweeps: int | None
) -> set[str]:
    """The runs that must stay, by the rules in the module's docstring.

    Args:
        runs: all runs of the experiment.
        named: runs that files name.
        others: runs of different workspaces.
        sweeps: how many of the newest sweeps to keep; None keeps all.
    """
    tagged = {run.id for run in runs if "keep" in run.tags or run.tags.get("kind") in NOT_REPEATABLE}
    still_open = {run.id for run in runs if is_open(run)}
    kept_sweeps = _newest_sweeps([run for run in runs if run.id not in others], sweeps)
    jobs = _finished_jobs(runs, kept_sweeps)
    kept = {run.id for run in runs} & (named | others | tagged | still_open | kept_sweeps | jobs)
    return kept | _finetunes_of(runs, kept) | _comparisons_of(runs, kept)


def is_open(run: RunRecord) -> bool:
    """Whether somebody may be at this run; a run that was killed stays open in the store."""
    return run.status == "RUNNING" and may_run(run.tags.get("process", ""))


def is_report(run: RunRecord) -> bool:
    """Whether it holds a report of `reviewtune monitor`, which names a model but does not need it."""
    return run.tags.get("kind") == "monitoring"


def ids_of_other_workspaces(runs: Sequence[RunRecord], tracking: TrackingConfig) -> set[str]:
    """Runs of different workspaces. The project's own store has none, wherever the project was when it wrote them."""
    if not tracking.uri:
        return set()
    return {run.id for run in runs if run.tags.get("workspace") != workspace()}


def ids_of_versions(versions: Iterable[RegisteredVersion]) -> set[str]:
    """Runs that these versions name: the evaluation, and the training."""
    tags = ("evaluation_run", "training_run")
    named = {run for one in versions for run in (one.run_id, *(one.tags.get(tag) for tag in tags))}
    return {run for run in named if run}


def models_of_versions(versions: Iterable[RegisteredVersion]) -> set[str]:
    """Names of the models and ids of the jobs that these versions answer with."""
    return {one.tags[name] for one in versions for name in ("model", "job_id") if name in one.tags}


def ids_in_files(root: Path) -> set[str]:
    """Runs that are named by the run.json files of the workspace and of its whole history, and by the last rebase.

    Raises:
        DataError: a run.json or a report of the workspace is damaged.
        GitError: git does not say what the history refers to.
    """
    experiments = root / ".dvc" / "tmp" / "exps"  # of `dvc exp run --temp` and of the queue, while they run
    files = [*root.glob("reports/arms/*/run.json"), ProjectPaths(root).model_run, *experiments.glob("*/**/run.json")]
    in_workspace = {read_run_id(file) for file in files if file.exists()}
    moved = {read_run_id(file, REBASE) for file in root.glob("reports/rebase/*.json")}
    return in_workspace | moved | set(RUN_ID.findall(git.every_version(root, *RUN_FILES)))


def _newest_sweeps(runs: Sequence[RunRecord], count: int | None) -> set[str]:
    """The newest sweeps; an open sweep is newer than any that ended, and a killed one is as new as its last job.

    None means all of them.
    """

    def end(sweep: RunRecord) -> float:
        jobs = (run.ended or 0 for run in runs if run.tags.get("mlflow.parentRunId") == sweep.id)
        return math.inf if is_open(sweep) else max(sweep.ended or 0, *jobs, 0)

    sweeps = [run for run in runs if run.tags.get("kind") == "sweep"]
    return {run.id for run in sorted(sweeps, key=end, reverse=True)[:count]}


def _finished_jobs(runs: Iterable[RunRecord], sweeps: AbstractSet[str]) -> set[str]:
    """The jobs of these sweeps that finished; failed ones can be removed."""
    return {run.id for run in runs if run.tags.get("mlflow.parentRunId") in sweeps and run.status == "FINISHED"}


def _finetunes_of(runs: Sequence[RunRecord], kept: AbstractSet[str]) -> set[str]:
    """The fine-tunes whose models the kept runs use; a report of the monitor says only what a model did."""
    models = {run.tags["model"] for run in runs if run.id in kept and "model" in run.tags and not is_report(run)}
    return {run.id for run in runs if run.tags.get("kind") == "finetune" and run.tags.get("model") in models}


def _comparisons_of(runs: Sequence[RunRecord], kept: AbstractSet[str]) -> set[str]:
    """The comparisons in which kept runs took part."""
    passes: set[str] = set()
    for run in runs:
        if run.id in kept:
            passes.update(run.tags.get("passes", "").split(","))
    return {run.id for run in runs if run.tags.get("kind") == "comparison" and run.id[:PASS_ID_LENGTH] in passes}
