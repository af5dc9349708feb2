"""Traces of a champion outside of MLflow's store: without them a lost store looks like a project's beginning."""

from contextlib import suppress
from pathlib import Path

from reviewtune.analyzer.champion import RegistrySource
from reviewtune.core.config.config import Config
from reviewtune.core.project import ProjectPaths
from reviewtune.deployment.gates_file import GATES_FILE, read_gates
from reviewtune.errors import DataError
from reviewtune.monitoring.retraining.report_file import FILE, read_last


def earlier_champion(config: Config, root: Path) -> str:
    """Which version was champion and which file says so, such as "version 3 by reports/gates.json"; empty: none was."""
    traces = (_copy(config, root), _gates(config, root), _retraining(config, root))
    return next((f"version {version} by {file}" for version, file in traces if version), "")


def _copy(config: Config, root: Path) -> tuple[str, str]:
    """The copy that applications of this project keep."""
    copies = ProjectPaths(root).work / "champion"
    known = RegistrySource(config.tracking, config.registered_name, copies).last_known()
    return known.version if known else "", f"{copies.relative_to(root)}/"


def _gates(config: Config, root: Path) -> tuple[str, str]:
    """The last `reviewtune promote`: what it promoted, or the champion that it compared with."""
    versions: list[int | None] = []
    with suppress(DataError):  # no or a damaged report: no trace
        report = read_gates(ProjectPaths(root).reports)
        if report.name == config.registered_name:
            versions = [report.candidate.version, report.opponent.version if report.opponent else None]
    return str(next(filter(None, versions), "")), f"reports/{GATES_FILE}"


def _retraining(config: Config, root: Path) -> tuple[str, str]:
    """The last `reviewtune retrain`."""
    last = read_last(root)
    version = last.champion if last and last.name == config.registered_name else None
    return str(version or ""), f"reports/{FILE}"
