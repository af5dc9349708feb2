"""reports/retraining.json: how far a retraining came and what was decided. Git ignores it."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from reviewtune.core.config.arms import LIMITS
from reviewtune.core.config.config import Config
from reviewtune.core.project import ProjectPaths
from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result
from reviewtune.data.reviews import sha256
from reviewtune.errors import DataError

FILE = "retraining.json"
MAY_PASS_LATER = ("git", "champion")
"""Gates that may pass without new labels: after a commit, or when the champion answers again."""
Decision = Literal["not needed", "unfinished", "already champion", "passed", "refused", "promoted"]


class Step(ResultPart):
    """A finished step."""

    name: str = Field(description="what was done, such as data check")
    command: str = Field(description="the command that it stands for")
    outcome: Literal["done", "done before"] = Field(description="done before: by an earlier call for the same data")
    seen: str = Field(description="what came of it, in words")


class Retraining(ResultFile):
    """A retraining."""

    name: str = Field(description="name in the model registry")
    order: str = Field(description="hash of the raw data, the settings, the champion and the arm that it is about")
    new_labels: int = Field(description="labelled reviews of the raw data that no promoted model knew")
    reasons: tuple[str, ...] = Field(description="why it is worth it; empty: it was asked for")
    why_not: str = Field(description="why it is not needed; empty otherwise")
    champion_before: int | None = Field(description="version of the champion at the beginning; null: there was none")
    steps: tuple[Step, ...] = Field(description="the finished steps")
    process: str | None = Field(description="host, id and start time of the `dvc repro` that runs; null: none")
    decision: Decision = Field(
        description="passed: all gates passed and nothing was promoted, because --promote was not given"
    )
    failed_gates: tuple[str, ...] = Field(description="names of the gates that failed")
    champion: int | None = Field(description="version that is champion now; null: none")
    decided_on: str | None = Field(description="date of the decision, ISO 8601; null: it is unfinished")

    @property
    def is_decided(self) -> bool:
        """Whether the same question would be answered in the same way again."""
        if self.decision == "refused":
            return not set(self.failed_gates) & set(MAY_PASS_LATER)
        return self.decision in ("already champion", "passed", "promoted")


def order_of(data: Path, config: Config, *parts: object) -> str:
    """What a retraining is about: a hash of the raw data, the settings without limits, and what else decides on it.

    With a higher limit the same retraining continues, and what it spent counts.
    """
    settings = config.model_dump(mode="json", exclude={"evaluation": set(LIMITS)})
    texts = (sha256(data), json.dumps(settings, sort_keys=True), *map(str, parts))
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def read_last(root: Path) -> Retraining | None:
    """The last retraining of the project; None: there is none that this release can read, so all is done again."""
    path = ProjectPaths(root).reports / FILE
    try:
        return read_result(path, Retraining, if_missing="", if_damaged="")
    except DataError:  # nothing is lost: each step finds its own results
        return None


def write(retraining: Retraining, root: Path) -> None:
    write_result(retraining, ProjectPaths(root).reports / FILE)
