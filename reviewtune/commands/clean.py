"""What may go from the disk: whatever no kept run refers to. First a plan that only looks, then its execution.

A run is kept when a run.json of the workspace, of any commit or of a DVC experiment names it, when it carries the tag
`keep`, when it is still open, or when it belongs to a kept sweep (the newest ones, all by default). Of a sweep's models
the winner's is kept, and those of other kept runs; a job is kept as long as a kept run names it (past_jobs.py). On an
MLflow server that people share, all runs of other workspaces are kept, and every model that one of them names: whose
commits name what cannot be seen from here. DVC's cache is never touched: for that there is `dvc gc`, which in turn
touches nothing of this.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reviewtune.commands import account_cleanup
from reviewtune.core.atomic_files import read_json
from reviewtune.core.config import Config
from reviewtune.core.project import project_root
from reviewtune.core.user_dirs import SERVER_LOG, account_folder, cache_folder
from reviewtune.providers import budget
from reviewtune.providers.answer_cache import NAME as ANSWERS
from reviewtune.providers.answer_cache import open_store
from reviewtune.sweeps.ranking_report import SWEEPS, reports_of
from reviewtune.tracking.queries import artifacts_folder, delete_runs, find_runs
from reviewtune.tracking.runs import RunRecord, workspace

RUN_ID = re.compile(r'"mlflow_run_id": "([0-9a-f]{32})"')
CACHES = ("sweep", "hydra", "check-data")  # below .work/: made anew when needed
QUIET_SECONDS = 7 * 24 * 3600  # a run that spent nothing for so long has ended; the longest wait is a batch's, a day


@dataclass(frozen=True)
class Item:
    """One thing to remove, and its size in bytes."""

    what: str
    size: int


@dataclass(frozen=True)
class Plan:
    """`kept` runs stay; the rest goes."""

    kept: int
    runs: tuple[RunRecord, ...]
    leftovers: account_cleanup.Leftovers
    folders: tuple[Path, ...]
    budgets: tuple[str, ...]
    items: tuple[Item, ...]

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


def plan(config: Config, *, sweeps: int | None = None) -> Plan:
    """What would go; `sweeps` keeps that many of the newest sweeps, None all of them. Changes nothing."""
    runs = find_runs(config.tracking)
    others = _of_others(runs, config)
    kept = _kept(runs, _named_in_files(project_root()) | others, sweeps, others)
    gone = [run for run in runs if run.id not in kept]
    leftovers = account_cleanup.find(config.provider, runs, kept=kept, others=others)
    folders = [] if _sweep_is_open(runs) else _cache_folders()
    reports = _reports_of(gone)
    budgets = _budgets(gone)
    items = [
        Item(f"{len(gone)} runs of {len(runs)}", sum(_size(artifacts_folder(config.tracking, run.id)) for run in gone)),
        Item(_in_words(leftovers), _size_in_account(leftovers)),
        Item(f"{len(folders)} folders of past sweeps and checks in .work/", sum(map(_size, folders))),
        Item(f"{len(reports)} folders of their tables and pictures in {SWEEPS}/", sum(map(_size, reports))),
        Item(f"{len(budgets)} notes of what past runs with a budget had spent", sum(map(len, budgets))),
    ]
    return Plan(len(kept), tuple(gone), leftovers, (*folders, *reports), tuple(budgets), tuple(items))


def execute(plan: Plan, config: Config) -> None:
    """Remove what the plan names. Interrupted, the next call removes the rest."""
    account_cleanup.remove(config.provider, plan.leftovers)
    with open_store() as answers:
        for model in plan.leftovers.models:
            answers.prune(model=model)
        budget.forget(answers, plan.budgets)
    for folder in plan.folders:
        shutil.rmtree(folder, ignore_errors=True)
    delete_runs(config.tracking, [run.id for run in plan.runs])


def on_disk(config: Config) -> list[Item]:
    """What there is, for people who wonder where the space went."""
    root = project_root()
    places = {
        "runs and their artifacts (mlruns/)": root / "mlruns",
        "work in progress (.work/)": root / ".work",
        f"tables and pictures of sweeps ({SWEEPS}/)": root / SWEEPS,
        "DVC's cache (.dvc/cache; `dvc gc`)": root / ".dvc" / "cache",
        "DVC's queue, its logs (.dvc/tmp; `dvc queue remove --all`)": root / ".dvc" / "tmp",
    }
    items = [Item(what, _size(place)) for what, place in places.items()]
    return items + [Item(f"{item.what}, shared by all projects", item.size) for item in _shared(config)]


def _shared(config: Config) -> list[Item]:
    account, cache = account_folder(), cache_folder()
    items = []
    if config.provider.kind == "local" and config.provider.base_url is None:
        log = sum(file.stat().st_size for file in account.glob(f"{SERVER_LOG}*"))
        items += [Item(f"the local provider's account ({account})", _size(account) - log)]
        items += [Item(f"its log ({SERVER_LOG}, of 5 MB at most, and one before)", log)]
    answers = sum(file.stat().st_size for file in cache.glob(f"{ANSWERS}*"))
    items += [Item(f"answers ({cache / ANSWERS}; `reviewtune cache prune`)", answers)]
    return [*items, Item(f"base models and other caches ({cache})", _size(cache) - answers)]


def _of_others(runs: Sequence[RunRecord], config: Config) -> set[str]:
    """Runs that other workspaces made; in the project's own store all are its own, wherever it lay then."""
    return {run.id for run in runs if run.tags.get("workspace") != workspace()} if config.tracking.uri else set()


def _kept(runs: Sequence[RunRecord], named: set[str], sweeps: int | None, others: set[str]) -> set[str]:
    mine = [run for run in runs if run.tags.get("kind") == "sweep" and run.id not in others]
    parents = sorted(mine, key=lambda run: -(run.ended or 2**40))
    families = {run.id for run in (parents if sweeps is None else parents[:sweeps])}
    kept = {run.id for run in runs if run.id in named | families or "keep" in run.tags or run.status == "RUNNING"}
    kept |= {run.id for run in runs if run.tags.get("mlflow.parentRunId") in families and run.status == "FINISHED"}
    return kept | _referred_to(runs, kept)


def _referred_to(runs: Sequence[RunRecord], kept: set[str]) -> set[str]:
    """The fine-tunes of kept evaluations, and the comparisons in which kept runs took part."""
    models = {run.tags["model"] for run in runs if run.id in kept and "model" in run.tags}
    passes = {one for run in runs if run.id in kept for one in run.tags.get("passes", "").split(",") if one}
    tuned = {run.id for run in runs if run.tags.get("kind") == "finetune" and run.tags.get("model") in models}
    return tuned | {run.id for run in runs if run.id[:12] in passes and run.tags.get("kind") == "comparison"}


def _named_in_files(root: Path) -> set[str]:
    """Runs that the workspace's run.json files name, and those of every commit, tag and DVC experiment."""
    files = [*root.glob("reports/arms/*/run.json"), root / "models" / "run.json"]
    found = {read_json(file).get("mlflow_run_id", "") for file in files if file.exists()}
    command = ["git", "log", "--all", "-p", "--format=", "--", "reports/**/run.json", "models/run.json"]
    done = subprocess.run(command, cwd=root, text=True, capture_output=True)
    return found | set(RUN_ID.findall(done.stdout))


def _sweep_is_open(runs: Sequence[RunRecord]) -> bool:
    return any(run.tags.get("kind") in ("sweep", "job") and run.status == "RUNNING" for run in runs)


def _cache_folders() -> list[Path]:
    places = (project_root() / ".work" / name for name in CACHES)
    return sorted(folder for place in places if place.exists() for folder in place.iterdir() if folder.is_dir())


def _reports_of(gone: Sequence[RunRecord]) -> list[Path]:
    """What these sweeps wrote into reports/sweeps/, unless git has it: what was committed is a result to keep."""
    names = {reports_of(run.tags.get("run_key", "")).name for run in gone if run.tags.get("kind") == "sweep"}
    command = ["git", "ls-files", "-z", "--", str(SWEEPS)]
    done = subprocess.run(command, cwd=project_root(), text=True, capture_output=True)
    committed = {Path(name).parts[2] for name in done.stdout.split("\0") if name}
    return sorted(folder for folder in (project_root() / SWEEPS).glob("*/") if folder.name in names - committed)


def _budgets(gone: Sequence[RunRecord]) -> list[str]:
    with open_store() as answers:
        sweeps = [run.id for run in gone if run.tags.get("kind") == "sweep"]
        return budget.settled(answers, sweeps, unchanged_since=time.time() - QUIET_SECONDS)


def _in_words(leftovers: account_cleanup.Leftovers) -> str:
    models, jobs, files = (len(one) for one in (leftovers.models, leftovers.jobs, leftovers.files))
    return f"{models} fine-tuned models and checkpoints, {jobs} past jobs and {files} of their files"


def _size_in_account(leftovers: account_cleanup.Leftovers) -> int:
    """Of what can be seen from here: a server elsewhere has its own disk."""
    places = (account_folder() / part / name for part in ("models", "jobs") for name in leftovers.folders)
    return sum(map(_size, places)) + sum(note.stat().st_size for note in leftovers.notes)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
