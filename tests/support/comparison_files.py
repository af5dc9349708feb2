"""Whole comparisons of any size and language on disk, for the page: reports/ and the test split."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reviewtune.core.config.arms import CascadeConfig
from reviewtune.core.result_file import write_result
from reviewtune.evaluation.comparison.compare import Arm, compare
from reviewtune.evaluation.comparison.comparison_file import COMPARISON_FILE, Comparison
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics_file import ArmKind
from tests.support.arm_files import write_tables

WORDS = "parcel driver late broken screen refund invoice double charged app crashes login support"
KOREAN_WORDS = "배송이 너무 늦게 도착했어요 환불을 요청했는데 답하지 않아요 화면이 깨져서 왔습니다"
KOREAN_LABELS = ["배송 지연", "결제 오류", "제품 파손", "환불 및 교환 요청", "고객 상담 불만", "기타"]


class ArmPlan(NamedTuple):
    """One arm: the share of reviews that it classifies correctly, of the others every twentieth is unusable.

    `cost` is USD per 1,000 reviews.
    """

    kind: ArmKind
    right: float
    cost: float | None
    confident: bool = True


PLANS: dict[str, ArmPlan] = {
    "majority": ArmPlan("majority", 0.12, None),
    "linear": ArmPlan("linear", 0.68, None),
    "zero_shot": ArmPlan("prompt", 0.57, 0.021),
    "few_shot": ArmPlan("prompt", 0.71, 0.094),
    "few_shot_cot": ArmPlan("prompt", 0.66, 0.21, confident=False),
    "finetuned": ArmPlan("finetuned", 0.86, 0.034),
}


class Folder(NamedTuple):
    """A project with a comparison: `root` has reports/ and data/splits/test.csv."""

    root: Path
    comparison: Comparison
    arms: list[Arm]

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def test(self) -> Path:
        return self.root / "data" / "splits" / "test.csv"


def write_comparison(
    root: Path,
    labels: Sequence[str],
    n: int,
    *,
    plans: Mapping[str, ArmPlan] = PLANS,
    words: str = WORDS,
    texts: Mapping[int, str] | None = None,
    validation: int = 200,
    first: str = "finetuned",
) -> Folder:
    """Write reports/ and the test split, and compare.

    Args:
        root: the project.
        labels: the label list.
        n: number of test reviews.
        plans: the arms by name; zero_shot is the reference.
        words: what the reviews are made of.
        texts: reviews to use instead, by position.
        validation: number of validation reviews.
        first: the first arm of the cascade.
    """
    chance = random.Random(1)
    reviews = [(texts or {}).get(number) or " ".join(chance.choices(words.split(), k=22)) for number in range(n)]
    truth = [chance.choice(labels) for _ in range(n)]
    table = pd.DataFrame({"review_id": [f"r-{number:05}" for number in range(n)], "text": reviews, "label": truth})
    test = root / "data" / "splits" / "test.csv"
    test.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(test, index=False, lineterminator="\n")
    digest = hashlib.sha256(test.read_bytes()).hexdigest()
    other = [chance.choice(labels) for _ in range(validation)]
    known = pd.DataFrame({"review_id": [f"v-{number}" for number in range(validation)], "label": other})
    arms = [_arm(root / "reports" / "arms", name, plan, table, known, labels, digest) for name, plan in plans.items()]
    cascade = CascadeConfig(first=first, second="person", wanted_accuracy=0.9, person_usd=0.1)
    comparison = compare(arms, reference="zero_shot", seed=1, resamples=200, cascade=cascade)
    write_result(comparison, root / "reports" / COMPARISON_FILE)
    return Folder(root, comparison, arms)


def _arm(
    root: Path, name: str, plan: ArmPlan, test: pd.DataFrame, known: pd.DataFrame, labels: Sequence[str], digest: str
) -> Arm:
    chance = random.Random(name)
    table, valid = (_answered(part, plan, labels, chance) for part in (test, known))
    sure = {
        key: part.pop("confidence").tolist() if plan.confident else []
        for key, part in (("confidence", table), ("validation", valid))
    }
    valid, table = (part.drop(columns=["confidence", "text"], errors="ignore") for part in (valid, table))
    return write_tables(
        root,
        name,
        table,
        list(labels),
        kind=plan.kind,
        validation=valid,
        confidences=sure,
        slices={},
        cost_per_1k=plan.cost,
        test_sha256=digest,
    )


def _answered(part: pd.DataFrame, plan: ArmPlan, labels: Sequence[str], chance: random.Random) -> pd.DataFrame:
    confidence = [round(min(chance.betavariate(5, 1.6), 0.999), 4) for _ in range(len(part))]
    predicted = []
    for label, sure in zip(part["label"], confidence, strict=True):
        right = chance.random() < plan.right + 0.6 * (sure - 0.75)
        other = labels[(labels.index(label) + chance.choice((1, 1, 2))) % len(labels)]
        wrong = INVALID if chance.random() < 0.05 else other
        predicted.append(label if right else wrong)
    if plan.kind == "majority":
        predicted = [labels[0]] * len(part)
    return part.assign(predicted=predicted, confidence=confidence)
