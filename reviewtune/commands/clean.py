"""The command `reviewtune clean`: remove what no kept run refers to. `plan` only looks, `execute` removes.

tracking/kept_runs.py decides which runs are kept. If that cannot be answered, nothing is removed. Of a sweep's models,
the winner's is kept, and those of other kept runs; a job is kept while a kept run names it (account_cleanup.py). DVC's
cache is never touched: `dvc gc` cleans it, and touches nothing of this.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from reviewtune.commands import account_cleanup
from reviewtune.core.config.config import Config
from reviewtune.core.folders import Usage, in_use
from reviewtune.core.formatting import counted
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.user_dirs import SERVER_LOG, account_folder, cache_folder
from reviewtune.errors import DataError
from reviewtune.providers import budget
from reviewtune.providers.answer_cache import NAME as ANSWERS
from reviewtune.providers.answer_cache import open_store
from reviewtune.sweeps.ranking_report import SWEEPS, reports_of
from reviewtune.tracking import git
from reviewtune.tracking.kept_runs import (
    ids_in_files,
    ids_of_other_workspaces,
    ids_of_versions,
    is_open,
    kept_ids,
    models_of_versions,
)
from reviewtune.tracking.queries import artifacts_folder, delete_runs, find_runs
from reviewtune.tracking.registry import with_alias
from reviewtune.tracking.runs import RunRecord

CACHES = ("sweep", "hydra", "check-data", "rebase")  # folders of .work/ that are created again when needed
IDLE_SECONDS = 7 * 24 * 3600  # a run that spent nothing for this long has ended; the longest wait is a batch's, a day


@dataclass(frozen=True)
class Item:
    """One kind of things: their names, as far as they are listed, and their size in bytes."""

    what: str
    size: int
    names: tuple[str, ...] = ()


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

    Raises:
        DataError: a run.json or a report of the workspace is damaged.
        GitError: git does not say what the history refers to.
        TrackingError: the model registry does not say what applications use.
    """
    runs, registered = find_runs(config.tracking), with_alias(config.tracking)
    others = ids_of_other_workspaces(runs, config.tracking)
    named = ids_in_files(project_root()) | ids_of_versions(registered)
    kept = kept_ids(runs, named=named, others=others, sweeps=sweeps)
    removed = [run for run in runs if run.id not in kept]
    leftovers = account_cleanup.Leftovers()
    if _knows_all_users(config):
        used = models_of_versions(registered)
        leftovers = account_cleanup.find(config.provider, runs, kept=kept, others=others, used=used)
    caches = [] if _sweep_is_open(runs) else _cache_folders()
    reports = _uncommitted_reports(removed, [run for run in runs if run.id in kept])
    budgets = _settled_budgets(removed)
    usage = Usage()
    items = [
        Item(
            f"{counted(len(removed), 'run')} of {len(runs)}{_marked(config)}",
            _freed_by_runs(removed, config, usage),
            _runs(removed),
        ),
        Item(
            f"{_in_words(leftovers)}{_untouched(config)}", _freed_in_account(leftovers, config, usage), leftovers.names
        ),
        Item(
            f"{counted(len(caches), 'folder')} of past sweeps and checks in .work/",
            usage.freed(*caches),
            _relative(caches),
        ),
        Item(
            f"{counted(len(reports), 'folder')} of their tables and pictures in {SWEEPS}/",
            usage.freed(*reports),
            _relative(reports),
        ),
        Item(
            f"{counted(len(budgets), 'record')} of what past runs with a budget spent",
            sum(map(len, budgets)),
            tuple(budgets),
        ),
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
    """Remove what the plan names. If this is interrupted, the next plan holds the rest.

    Raises:
        DataError: a folder could not be removed; everything else was.
    """
    account_cleanup.remove(config.provider, plan.leftovers)
    with open_store() as answers:
        for model in plan.leftovers.models:
            answers.prune(model=model)
        budget.forget(answers, plan.budgets)
    failures = [failure for folder in plan.folders if (failure := _remove(folder))]
    delete_runs(config.tracking, [run.id for run in plan.runs])
    if failures:
        raise DataError(f"not removed: {'; '.join(failures)}; fix that, then run the same command again")


def on_disk(config: Config) -> list[Item]:
    """Everything of the project and of its user that takes up space, each file once, whatever links to it."""
    root, usage = project_root(), Usage()
    places = {
        "runs and their artifacts (mlruns/)": root / "mlruns",
        "work in progress (.work/)": root / ".work",
        f"tables and pictures of sweeps ({SWEEPS}/)": root / SWEEPS,
        "DVC's cache (.dvc/cache; `dvc gc`)": root / ".dvc" / "cache",
        "DVC's queue and logs (.dvc/tmp; `dvc queue remove --all`)": root / ".dvc" / "tmp",
    }
    items = [Item(what, usage.new(place)) for what, place in places.items()]
    return items + [Item(f"{what}, shared by all projects", size) for what, size in _shared(config, usage)]


def _shared(config: Config, usage: Usage) -> Iterator[tuple[str, int]]:
    account, cache = account_folder(), cache_folder()
    if config.provider.kind == "local" and config.provider.base_url is None:
        log = usage.new(*account.glob(f"{SERVER_LOG}*"))
        yield f"the local provider's account ({account})", usage.new(account)
        yield f"its log ({SERVER_LOG} and the one before it, at most 5 MB each)", log
    yield f"answers ({cache / ANSWERS}; `reviewtune cache prune`)", usage.new(*cache.glob(f"{ANSWERS}*"))
    yield f"base models and other caches ({cache})", usage.new(cache)


# --- what goes with the runs ---


def _knows_all_users(config: Config) -> bool:
    """Whether all runs that need models of the account can be seen: it is this user's own, or all share the runs."""
    return config.provider.base_url is None or config.tracking.uri is not None


def _sweep_is_open(runs: Iterable[RunRecord]) -> bool:
    return any(run.tags.get("kind") in ("sweep", "job") and is_open(run) for run in runs)


def _cache_folders() -> list[Path]:
    places = (ProjectPaths(project_root()).work / name for name in CACHES)
    folders = (folder for place in places if place.exists() for folder in place.iterdir())
    return sorted(folder for folder in folders if folder.is_dir() and not in_use(folder))


def _uncommitted_reports(removed: Iterable[RunRecord], kept: Iterable[RunRecord]) -> list[Path]:
    """What these sweeps wrote into reports/sweeps/, except folders with files in git: those are results to keep."""
    listing = git.ask(project_root(), "ls-files", "-z", "--", str(SWEEPS))
    committed = {Path(name).parts[2] for name in listing.split("\0") if name}
    names = _report_folders(removed) - _report_folders(kept) - committed
    return sorted(folder for folder in (project_root() / SWEEPS).glob("*/") if folder.name in names)


def _report_folders(runs: Iterable[RunRecord]) -> set[str]:
    return {reports_of(run.tags.get("run_key", "")).name for run in runs if run.tags.get("kind") == "sweep"}


def _settled_budgets(removed: Iterable[RunRecord]) -> list[str]:
    with open_store() as answers:
        sweeps = [run.id for run in removed if run.tags.get("kind") == "sweep"]
        return budget.settled(answers, sweeps, unchanged_since=time.time() - IDLE_SECONDS)


def _remove(folder: Path) -> str | None:
    """Remove a folder; returns why that failed."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:  # removed in the meantime
        return None
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
    return None


# --- what is shown of them ---


def _marked(config: Config) -> str:
    return ", which the server only marks as deleted" if config.tracking.uri else ""


def _runs(runs: Iterable[RunRecord]) -> tuple[str, ...]:
    return tuple(f"{run.id} {run.tags.get('kind', 'run')} {run.name}, {_ended(run)}" for run in runs)


def _ended(run: RunRecord) -> str:
    ended = f" {datetime.fromtimestamp(run.ended):%Y-%m-%d %H:%M}" if run.ended else ""
    return f"{run.status.lower()}{ended}"


def _relative(folders: Iterable[Path]) -> tuple[str, ...]:
    return tuple(str(folder.relative_to(project_root())) for folder in folders)


def _in_words(leftovers: account_cleanup.Leftovers) -> str:
    models, jobs, files = len(leftovers.models), len(leftovers.jobs), len(leftovers.files)
    return f"{models} fine-tuned models and checkpoints, {jobs} past jobs and {files} of their files"


def _untouched(config: Config) -> str:
    why = f"; the account at {config.provider.base_url} may have users whose runs are not in this store"
    return "" if _knows_all_users(config) else why


def _freed_by_runs(runs: Sequence[RunRecord], config: Config, usage: Usage) -> int:
    """Bytes; a server keeps the files until its owner runs `mlflow gc`."""
    return 0 if config.tracking.uri else usage.freed(*(artifacts_folder(config.tracking, run.id) for run in runs))


def _freed_in_account(leftovers: account_cleanup.Leftovers, config: Config, usage: Usage) -> int:
    """Bytes on this machine; a server elsewhere has its own disk."""
    if config.provider.base_url is not None:
        return 0
    folders = (account_folder() / part / name for part in ("models", "jobs") for name in leftovers.folders)
    files = (account_folder() / "files" / name for name in leftovers.files)
    return usage.freed(*folders, *files, *leftovers.notes)
