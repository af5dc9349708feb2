"""The steps of a retraining: each is announced with the command that it stands for, and noted when it is finished."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from reviewtune.core.config.config import Config
from reviewtune.core.formatting import counted
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import Progress
from reviewtune.data_check.examine import examine, refuse_unusable
from reviewtune.data_check.labelled_file import read
from reviewtune.monitoring.retraining import commits
from reviewtune.monitoring.retraining.pipeline import run_pipeline
from reviewtune.monitoring.retraining.report_file import Retraining, Step, write

CHECK, COMMIT_DATA, PIPELINE, COMMIT_RESULTS = "data check", "commit the labels", "pipeline", "commit the results"
GATES, COMMIT_SIDES = "gates", "commit the frozen sides"


@dataclass
class Steps:
    """The steps of one call.

    Args:
        report: how far it came; each finished step is written to the disk.
        before: an earlier call about the same; None: there was none.
        root: the project's folder.
        progress: receives a message before each step, and one on its result.
    """

    report: Retraining
    before: Retraining | None
    root: Path
    progress: Progress

    def run(self, name: str, command: str, do: Callable[[], str], *, once: bool = False) -> None:
        """Run a step; with `once` only if no earlier call finished it. `do` says what came of it."""
        done = next((step for step in self.before.steps if step.name == name), None) if once and self.before else None
        self.progress.message(f"{name}: `{command}`")
        seen = done.seen if done else do()
        step = Step(name=name, command=command, outcome="done before" if done else "done", seen=seen)
        self.note(steps=(*self.report.steps, step))
        self.progress.message(f"  {'done before: ' if done else ''}{seen}")

    def note(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the report
        """Change the report, on the disk too."""
        self.report = self.report.model_copy(update=changes)
        write(self.report, self.root)

    def check_data(self, config: Config) -> None:
        """Refuse raw data that the pipeline would refuse, before anything is paid."""
        command = f"reviewtune check-data {config.data.path.as_posix()}"
        self.run(CHECK, command, lambda: _checked(config, self.root, self.progress), once=True)

    def commit(self, name: str, paths: Sequence[str], message: str) -> None:
        def do() -> str:
            revision = commits.commit(self.root, paths, message)
            return f"commit {revision}" if revision else "nothing changed"

        self.run(name, commits.command(self.root, paths, message), do)

    def pipeline(self, output: TextIO) -> None:
        """Run what is stale. DVC, the job's key and the answer cache see to it that nothing is done twice."""

        def do() -> str:
            run_pipeline(self.root, note=lambda process: self.note(process=process), output=output)
            return "finished"

        self.run(PIPELINE, "dvc repro", do)


def _checked(config: Config, root: Path, progress: Progress) -> str:
    """Raises DataError with what is wrong."""
    paths = ProjectPaths(root)
    file = read(root / config.data.path, config.data)
    described = config.model_copy(update={"data": config.data.model_copy(update={"path": file.path})})
    check = examine(
        file,
        reports=paths.reports,
        similarity=config.split.similarity,
        config=described,
        frozen=paths.frozen_splits,
        progress=progress,
    )
    refuse_unusable(check)
    looks = sum(result.level in ("problem", "notice") for result in check.results)
    return f"{counted(file.rows, 'row')}, {counted(looks, 'finding')} to look at, none stops the pipeline"
