"""What the page is made of: the arms' files and the texts of the test reviews, checked against the comparison."""

from pathlib import Path

from reviewtune.data.reviews import read_reviews, sha256
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.compare import Arm, load_arm
from reviewtune.evaluation.comparison.comparison_file import Comparison


def load_arms(comparison: Comparison, reports: Path) -> list[Arm]:
    """The compared arms, in the order of the comparison.

    Raises:
        DataError: an arm's files are missing or damaged, or they are from another evaluation than the comparison.
    """
    arms = [load_arm(reports / "arms" / row.arm) for row in comparison.arms]
    for arm, row in zip(arms, comparison.arms, strict=True):
        if arm.metrics.test_sha256 != comparison.test_sha256 or arm.accuracy != row.accuracy:
            raise DataError(
                f"{reports / 'arms' / arm.name}: not what comparison.json compares: run `dvc repro compare`"
            )
    return arms


def read_texts(comparison: Comparison, test: Path) -> dict[str, str]:
    """The test reviews as the split holds them: review id -> text.

    Args:
        comparison: whose reviews they are.
        test: data/splits/test.csv.

    Raises:
        DataError: the file is missing, or it is not the test split of the comparison.
    """
    hint = "run `dvc checkout`, or leave out the texts with --no-texts"
    if not test.is_file():
        raise DataError(f"{test} is missing: {hint}")
    if sha256(test) != comparison.test_sha256:
        raise DataError(f"{test}: not the test split of this comparison: {hint}")
    table = read_reviews(test)
    return dict(zip(table["review_id"], table["text"], strict=True))
