"""What each check measures. The fields are the keys of a check's `facts` in the output of `check-data --json`."""

from dataclasses import asdict, dataclass
from typing import Any

from reviewtune.data.faults import Fault


@dataclass(frozen=True)
class Facts:
    """Facts of a check that has nothing to judge by: an empty JSON object. The base of all others."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class FormatFacts(Facts):
    kind: str  # csv, xlsx or jsonl
    rows: int
    usable: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class GarbledReview:
    line: int
    what: str
    text: str


@dataclass(frozen=True)
class EncodingFacts(Facts):
    encoding: str
    line_breaks: str
    rows: tuple[GarbledReview, ...]


@dataclass(frozen=True)
class LabelFacts(Facts):
    counts: dict[str, int]  # most frequent first
    imbalance: float  # reviews of the most frequent label per review of the rarest
    alike: tuple[tuple[str, str], ...]  # names that may be two spellings of one label
    declared: bool  # whether conf/data lists the labels


@dataclass(frozen=True)
class LengthOutlier:
    line: int
    characters: int
    text: str


@dataclass(frozen=True)
class LengthFacts(Facts):
    """Lengths in characters."""

    min: int
    median: int
    max: int
    outliers: tuple[LengthOutlier, ...]
    all: tuple[int, ...]


@dataclass(frozen=True)
class ReviewPair:
    """Two similar reviews."""

    lines: tuple[int, int]
    labels: tuple[str, str]
    texts: tuple[str, str]


@dataclass(frozen=True)
class NearDuplicate:
    """Two similar reviews and their cosine."""

    similarity: float
    lines: tuple[int, int]
    labels: tuple[str, str]
    texts: tuple[str, str]


@dataclass(frozen=True)
class DuplicateFacts(Facts):
    exact: tuple[tuple[int, ...], ...]  # lines of each repeated text
    near: tuple[NearDuplicate, ...]
    method: str


@dataclass(frozen=True)
class ConflictingText:
    text: str
    labels: tuple[str, ...]  # such as "late (line 2)"


@dataclass(frozen=True)
class ConflictFacts(Facts):
    exact: tuple[ConflictingText, ...]
    near: tuple[ReviewPair, ...]  # near-duplicates with different labels


@dataclass(frozen=True)
class ConfusedLabels:
    """Two labels that the annotators confused, and how often."""

    labels: tuple[str, str]
    rows: int


@dataclass(frozen=True)
class AgreementFacts(Facts):
    n: int
    share: float
    kappa: float
    low: float  # 95 % interval of kappa
    high: float
    confused: tuple[ConfusedLabels, ...]


@dataclass(frozen=True)
class LabelError:
    """A review whose label may be wrong; both probabilities are out-of-fold."""

    rank: int
    line: int
    review_id: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float
    text: str


@dataclass(frozen=True)
class LabelErrorFacts(Facts):
    accuracy: float  # of the out-of-fold models
    suspects: int
    reviews: int
    rows: tuple[LabelError, ...]  # the least plausible first; not all


@dataclass(frozen=True)
class ForeignReview:
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class LanguageFacts(Facts):
    counts: dict[str, int]
    main: str
    declared: bool
    foreign: tuple[ForeignReview, ...]


@dataclass(frozen=True)
class PersonalReview:
    line: int
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class PersonalDataFacts(Facts):
    counts: dict[str, int]
    rows: tuple[PersonalReview, ...]


@dataclass(frozen=True)
class SplitFacts(Facts):
    """Reviews of each label in each split, and what they do not suffice for."""

    train: dict[str, int]
    valid: dict[str, int]
    test: dict[str, int]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class LossFacts(Facts):
    steps: tuple[int, ...]
    loss: tuple[float, ...]
    best_step: int


@dataclass(frozen=True)
class LabelScores:
    """F1 of a label with both models."""

    label: str
    reviews: int
    finetuned: float
    base: float
    difference: float


@dataclass(frozen=True)
class Confusion:
    label: str
    answered: str
    reviews: int


@dataclass(frozen=True)
class BaseModelFacts(Facts):
    base: str  # name of the best prompt arm
    by_label: tuple[LabelScores, ...]  # the greatest loss first
    confusions: tuple[Confusion, ...]
    verdict: str
