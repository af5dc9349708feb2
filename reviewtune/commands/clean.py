"""The command `reviewtune clean`: remove what no kept run refers to. `plan` only looks, `execute` removes.

A run is kept if one of these holds, as `_kept_ids` decides:

- a run.json of the workspace, of any commit or of a DVC experiment names it;
- it has the tag `keep`;
- it is open;
- it is a kept sweep (the newest ones, by default all), or a finished job of one;
- it belongs to a different workspace on a shared MLflow server, whose commits cannot be seen from here;
- it is the fine-tune of a kept run's model, or a comparison in which a kept run took part.

Of a sweep's models the winner's is kept, and those of other kept runs; a job is kept while a kept run names it
(account_cleanup.py). DVC's cache is never touched: `dvc gc` cleans it, and touches nothing of this.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from reviewtune.commands import account_cleanup
from reviewtune.core.config import Config
from reviewtune.core.formatting import counted
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.user_dirs import SERVER_LOG, account_folder, cache_folder
from reviewtune.providers import budget
from reviewtune.providers.answer_cache import NAME as ANSWERS
from reviewtune.providers.answer_cache import open_store
from reviewtune.sweeps.ranking_report import SWEEPS, reports_of
from reviewtune.tracking.process import workspace
from reviewtune.tracking.queries import artifacts_folder, delete_runs, find_runs
from reviewtune.tracking.run_file import read_run_id
from reviewtune.tracking.runs import RunRecord

RUN_ID = re.compile(r'"mlflow_run_id": "([0-9a-f]{32})"')
CACHES = ("sweep", "hydra", "check-data")  # folders of .work/ that are created again when needed
IDLE_SECONDS = 7 * 24 * 3600  # a run that spent nothing for this long has ended; the longest wait is a batch's, a day
PASS_ID_LENGTH = 12  # the tag `passes` holds the first characters of the comparisons' run ids


@dataclass(frozen=True)
class Item:
    """One thing to remove, and its size in bytes."""

    what: str
    size: int


@dataclass(frozen=True)
class Plan:
    """What `execute` removes. `kept` is the number of runs that stay."""

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
    """Find what can be removed, without changing anything.

    Args:
        config: the project's configuration.
        sweeps: how many of the newest sweeps to keep; None keeps all.
    """
    runs = find_runs(config.tracking)
    others = _ids_of_other_workspaces(runs, config)
    kept = _kept_ids(runs, named=_ids_in_files(project_root()), others=others, sweeps=sweeps)
    removed = [run for run in runs if run.id not in kept]
    leftovers = account_cleanup.find(config.provider, runs, kept=kept, others=others)
    caches = [] if _sweep_is_open(runs) else _cache_folders()
    reports = _uncommitted_reports(removed)
    budgets = _settled_budgets(removed)
    runs_size = sum(_size(artifacts_folder(config.tracking, run.id)) for run in removed)
    items = [
        Item(f"{counted(len(removed), 'run')} of {len(runs)}", runs_size),
        Item(_in_words(leftovers), _size_in_account(leftovers)),
        Item(f"{counted(len(caches), 'folder')} of past sweeps and checks in .work/", sum(map(_size, caches))),
        Item(f"{counted(len(reports), 'folder')} of their tables and pictures in {SWEEPS}/", sum(map(_size, reports))),
        Item(f"{counted(len(budgets), 'record')} of what past runs with a budget spent", sum(map(len, budgets))),
    ]
    return Plan(
        kept=len(kept),
        runs=tuple(removed),
        leftovers=leftovers,
        folders=(*caches, *reports),
        budgets=tuple(budgets),
        items=tuple(items),
    )


def execute(plan: Plan, config: Config) -> None:
    """Remove what the plan names. If this is interrupted, the next plan holds the rest."""
    account_cleanup.remove(config.provider, plan.leftovers)
    with open_store() as answers:
        for model in plan.leftovers.models:
            answers.prune(model=model)
        budget.forget(answers, plan.budgets)
    for folder in plan.folders:
        shutil.rmtree(folder, ignore_errors=True)
    delete_runs(config.tracking, [run.id for run in plan.runs])


def on_disk(config: Config) -> list[Item]:
    """Everything of the project and of its user that takes up space, each thing once."""
    root = project_root()
    places = {
        "runs and their artifacts (mlruns/)": root / "mlruns",
        "work in progress (.work/)": root / ".work",
        f"tables and pictures of sweeps ({SWEEPS}/)": root / SWEEPS,
        "DVC's cache (.dvc/cache; `dvc gc`)": root / ".dvc" / "cache",
        "DVC's queue and logs (.dvc/tmp; `dvc queue remove --all`)": root / ".dvc" / "tmp",
    }
    items = [Item(what, _size(place)) for what, place in places.items()]
    return items + [Item(f"{item.what}, shared by all projects", item.size) for item in _shared_items(config)]


def _shared_items(config: Config) -> list[Item]:
    account, cache = account_folder(), cache_folder()
    items = []
    if config.provider.kind == "local" and config.provider.base_url is None:
        log = sum(file.stat().st_size for file in account.glob(f"{SERVER_LOG}*"))
        items += [Item(f"the local provider's account ({account})", _size(account) - log)]
        items += [Item(f"its log ({SERVER_LOG} and the one before it, at most 5 MB each)", log)]
    answers = sum(file.stat().st_size for file in cache.glob(f"{ANSWERS}*"))
    items += [Item(f"answers ({cache / ANSWERS}; `reviewtune cache prune`)", answers)]
    return [*items, Item(f"base models and other caches ({cache})", _size(cache) - answers)]


# --- which runs are kept; all functions return ids of runs ---


def _kept_ids(
    runs: Sequence[RunRecord], *, named: AbstractSet[str], others: AbstractSet[str], sweeps: int | None
) -> set[str]:
    """The runs that must stay, by the rules in the module's docstring.

    Args:
        runs: all runs of the experiment.
        named: runs that files name.
        others: runs of different workspaces.
        sweeps: how many of the newest sweeps to keep; None keeps all.
    """
    tagged = {run.id for run in runs if "keep" in run.tags}
    still_open = {run.id for run in runs if run.status == "RUNNING"}
    kept_sweeps = _newest_sweeps([run for run in runs if run.id not in others], sweeps)
    jobs = _finished_jobs(runs, kept_sweeps)
    kept = {run.id for run in runs} & (named | others | tagged | still_open | kept_sweeps | jobs)
    return kept | _finetunes_of(runs, kept) | _comparisons_of(runs, kept)


def _ids_of_other_workspaces(runs: Sequence[RunRecord], config: Config) -> set[str]:
    """Runs of different workspaces. The project's own store has none, wherever the project was when it wrote them."""
    if not config.tracking.uri:
        return set()
    return {run.id for run in runs if run.tags.get("workspace") != workspace()}


def _ids_in_files(root: Path) -> set[str]:
    """Runs that are named by the run.json files of the workspace and of all commits, tags and DVC experiments."""
    files = [*root.glob("reports/arms/*/run.json"), ProjectPaths(root).models / "run.json"]
    in_workspace = {read_run_id(file) for file in files if file.exists()}
    command = ["git", "log", "--all", "-p", "--format=", "--", "reports/**/run.json", "models/run.json"]
    history = subprocess.run(command, cwd=root, text=True, capture_output=True).stdout
    return in_workspace | set(RUN_ID.findall(history))


def _newest_sweeps(runs: Iterable[RunRecord], count: int | None) -> set[str]:
    """The newest sweeps; an open sweep is newer than any that ended. None means all of them."""
    sweeps = [run for run in runs if run.tags.get("kind") == "sweep"]
    newest_first = sorted(sweeps, key=lambda run: run.ended or float("inf"), reverse=True)
    return {run.id for run in newest_first[:count]}


def _finished_jobs(runs: Iterable[RunRecord], sweeps: AbstractSet[str]) -> set[str]:
    """The jobs of these sweeps that finished; failed ones can be removed."""
    return {run.id for run in runs if run.tags.get("mlflow.parentRunId") in sweeps and run.status == "FINISHED"}


def _finetunes_of(runs: Sequence[RunRecord], kept: AbstractSet[str]) -> set[str]:
    """The fine-tunes whose models the kept runs use."""
    models = {run.tags["model"] for run in runs if run.id in kept and "model" in run.tags}
    return {run.id for run in runs if run.tags.get("kind") == "finetune" and run.tags.get("model") in models}


def _comparisons_of(runs: Sequence[RunRecord], kept: AbstractSet[str]) -> set[str]:
    """The comparisons in which kept runs took part."""
    passes: set[str] = set()
    for run in runs:
        if run.id in kept:
            passes.update(run.tags.get("passes", "").split(","))
    return {run.id for run in runs if run.tags.get("kind") == "comparison" and run.id[:PASS_ID_LENGTH] in passes}


# --- what goes with the runs ---


def _sweep_is_open(runs: Iterable[RunRecord]) -> bool:
    return any(run.tags.get("kind") in ("sweep", "job") and run.status == "RUNNING" for run in runs)


def _cache_folders() -> list[Path]:
    places = (ProjectPaths(project_root()).work / name for name in CACHES)
    return sorted(folder for place in places if place.exists() for folder in place.iterdir() if folder.is_dir())


def _uncommitted_reports(removed: Iterable[RunRecord]) -> list[Path]:
    """What these sweeps wrote into reports/sweeps/, except folders with files in git: those are results to keep."""
    names = {reports_of(run.tags.get("run_key", "")).name for run in removed if run.tags.get("kind") == "sweep"}
    command = ["git", "ls-files", "-z", "--", str(SWEEPS)]
    listing = subprocess.run(command, cwd=project_root(), text=True, capture_output=True).stdout
    committed = {Path(name).parts[2] for name in listing.split("\0") if name}
    folders = (project_root() / SWEEPS).glob("*/")
    return sorted(folder for folder in folders if folder.name in names and folder.name not in committed)


def _settled_budgets(removed: Iterable[RunRecord]) -> list[str]:
    with open_store() as answers:
        sweeps = [run.id for run in removed if run.tags.get("kind") == "sweep"]
        return budget.settled(answers, sweeps, unchanged_since=time.time() - IDLE_SECONDS)


def _in_words(leftovers: account_cleanup.Leftovers) -> str:
    models, jobs, files = len(leftovers.models), len(leftovers.jobs), len(leftovers.files)
    return f"{models} fine-tuned models and checkpoints, {jobs} past jobs and {files} of their files"


def _size_in_account(leftovers: account_cleanup.Leftovers) -> int:
    """Bytes on this machine; a server elsewhere has its own disk."""
    places = (account_folder() / part / name for part in ("models", "jobs") for name in leftovers.folders)
    return sum(map(_size, places)) + sum(note.stat().st_size for note in leftovers.notes)


def _size(folder: Path) -> int:
    if not folder.exists():
        return 0
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
