"""Three arms on disk, and their comparison."""

from pathlib import Path

import pytest

from reviewtune.core.config.arms import CascadeConfig
from reviewtune.core.result_file import write_result
from reviewtune.evaluation.comparison.compare import Arm, compare
from reviewtune.evaluation.comparison.comparison_file import COMPARISON_FILE, Comparison, read_comparison
from tests.support.arm_files import write_arm

N = 200
CASCADE = CascadeConfig(first="zero_shot", second="person", wanted_accuracy=0.9, person_usd=0.1)


@pytest.fixture
def arms(tmp_path: Path) -> list[Arm]:
    """zero_shot 50 %, finetuned 75 % (correct wherever zero_shot is), linear 74 %."""
    return [
        write_arm(tmp_path, "linear", [number % 100 < 74 for number in range(N)], kind="linear"),
        write_arm(tmp_path, "zero_shot", [number % 4 < 2 for number in range(N)]),
        write_arm(tmp_path, "finetuned", [number % 4 < 3 for number in range(N)], kind="finetuned", cost_per_1k=0.01),
    ]


@pytest.fixture
def comparison(arms: list[Arm], tmp_path: Path) -> Comparison:
    """As read from comparison.json."""
    computed = compare(arms, reference="zero_shot", seed=1, resamples=1000, cascade=CASCADE)
    write_result(computed, tmp_path / COMPARISON_FILE)
    return read_comparison(tmp_path)
