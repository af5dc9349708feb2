"""reports/gates.json: the gates that a candidate had to pass, what was seen, and what was decided."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from reviewtune.core.project import ProjectPaths
from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result

GATES_FILE = "gates.json"

NOT_COMMITTED = "not committed: "
"""Beginning of what the gate `git` saw, if a commit is all that is missing."""

Outcome = Literal["passed", "failed", "off"]
Decision = Literal["promoted", "passed", "refused"]


class Gate(ResultPart):
    """One condition."""

    name: str = Field(description="what it is about, such as accuracy")
    asked: str = Field(description="the condition, in words")
    seen: str = Field(description="what was measured or found, in words")
    outcome: Outcome = Field(description="off: its limit is null, or there is nothing to measure")
    value: float | None = Field(None, description="the measured number, if the condition is one on a number")
    limit: float | None = Field(None, description="the limit of that number")


class Contender(ResultPart):
    """One side of the comparison."""

    arm: str = Field(description="its arm's name, such as finetuned or linear")
    model: str = Field(description="the model's name")
    run_id: str | None = Field(description="MLflow run of its evaluation; null: it is not known")
    version: int | None = Field(description="its version in the model registry; null: it has none")
    accuracy: float | None = Field(description="accuracy on the test reviews, in [0, 1]; null: it could not be asked")


class GateReport(ResultFile):
    """The gates of one `reviewtune promote`."""

    name: str = Field(description="name in the model registry")
    candidate: Contender = Field(description="what was to be promoted; its version is null if it was not")
    opponent: Contender | None = Field(
        description="the champion, or the reference arm without a version if there was "
        "no champion; null: neither could be read"
    )
    n: int = Field(description="number of test reviews")
    test_sha256: str = Field(description="SHA-256 of the test split")
    gates: tuple[Gate, ...] = Field(description="all gates, in the order of the report")
    decision: Decision = Field(description="what was done; passed: all gates passed, nothing was promoted (--check)")
    forced: bool = Field(description="whether it was promoted although gates failed")
    reason: str | None = Field(description="why, in the words of who promoted it")

    @property
    def failed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if gate.outcome == "failed")


def read_gates(reports: Path) -> GateReport:
    """Read the report in the project's folder reports/.

    Raises:
        DataError: there is none, or it is damaged.
    """
    hint = "`reviewtune promote` writes it"
    return read_result(reports / GATES_FILE, GateReport, if_missing=hint, if_damaged=hint)


def write_gates(report: GateReport, root: Path) -> Path:
    """Write the report into the project's folder reports/ and return its path."""
    path = ProjectPaths(root).reports / GATES_FILE
    write_result(report, path)
    return path
