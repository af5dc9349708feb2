"""The command `export`: a model as a folder that other programs open."""

from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.deployment import export as deployment
from reviewtune.deployment.export import ExportOptions


def export(options: ExportOptions) -> None:
    """Write the folder; say what is written and where."""
    root = project_root()
    deployment.export(options, load_params(ProjectPaths(root).params), root, progress=TerminalProgress())
