"""Which label counts: the one that the model answered, or the most likely one after correction of its label prior.

The correction helps a base model that prefers some labels whatever the review says, and it hurts where some labels
really are more frequent than others. `label_scores: auto` therefore asks the arm about the validation split too, and
uses the correction only if it classifies more of these reviews correctly. No test label takes part in the choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reviewtune.core.config.section import LabelScoring
from reviewtune.evaluation.label_scoring.answer_scores import CONFIDENCE_DIGITS
from reviewtune.evaluation.label_scoring.label_logprobs import LabelScores, correct_prior
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics_file import Decider


@dataclass(frozen=True, kw_only=True)
class ScoredAnswers:
    """Answers to reviews, with the labels' log-probabilities.

    Args:
        labels: the reviews' true labels.
        rows: one row per answer, with the column predicted.
        scores: the labels' log-probabilities for the same answers.
    """

    labels: Sequence[str]
    rows: pd.DataFrame
    scores: LabelScores


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The rows with the labels that count.

    Args:
        by: which way of reading the log-probabilities decided; None: there are none, and the answers count.
        test: the rows of the test reviews; with log-probabilities also `as_answered` and `prior_corrected`, the labels
            of both ways, and `confidence`, the probability of the label that counts. An unusable answer stays unusable.
        valid: the same of the validation reviews.
    """

    by: Decider | None
    test: pd.DataFrame
    valid: pd.DataFrame


def decide(test: ScoredAnswers, valid: ScoredAnswers, scoring: LabelScoring) -> Decision:
    """Read the log-probabilities both ways, and let one of them decide.

    Args:
        test: the test reviews' answers; their true labels are not used.
        valid: the validation reviews' answers; may be empty. The label prior is estimated on them if there are any,
            otherwise on the test reviews' answers. The same object as `test` gives the same labels for both.
        scoring: the arm's setting; `auto` compares both ways on the validation reviews.
    """
    others = valid.scores if len(valid.rows) and valid is not test else None
    corrected = correct_prior(test.scores, others), correct_prior(valid.scores)
    both = [_both_ways(part, scores) for part, scores in zip((test, valid), corrected, strict=True)]
    by = _choice(both[1], valid.labels) if scoring == "auto" else "corrected" if scoring == "corrected" else "raw"
    counted = [
        scores if by == "corrected" else part.scores for part, scores in zip((test, valid), corrected, strict=True)
    ]
    rows = [_counted(table, scores, by) for table, scores in zip(both, counted, strict=True)]
    return Decision(by=by, test=rows[0], valid=rows[1])


def _choice(valid: pd.DataFrame, labels: Sequence[str]) -> Decider:
    """The way that classifies more validation reviews correctly; raw if both classify the same number."""
    answered, corrected = ((valid[way] == list(labels)).sum() for way in ("as_answered", "prior_corrected"))
    return "corrected" if corrected > answered else "raw"


def _both_ways(answers: ScoredAnswers, corrected: LabelScores) -> pd.DataFrame:
    rows, usable = answers.rows, answers.rows["predicted"] != INVALID
    best = pd.Series(corrected.best(), index=rows.index, dtype=object).where(usable, INVALID).fillna(rows["predicted"])
    return rows.assign(as_answered=rows["predicted"], prior_corrected=best)


def _counted(rows: pd.DataFrame, scores: LabelScores, by: Decider) -> pd.DataFrame:
    usable = rows["predicted"] != INVALID
    decided = rows["prior_corrected" if by == "corrected" else "as_answered"]
    confidence = pd.Series(scores.of(decided.tolist()), index=rows.index).where(usable, 0.0).round(CONFIDENCE_DIGITS)
    return rows.assign(predicted=decided, confidence=confidence)
