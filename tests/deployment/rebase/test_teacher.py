"""`reviewtune rebase --teacher`: what the old model knows is kept while it answers, and the new one learns from it."""

import hashlib
import math
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.commands.deployment.rebase import options_of
from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Prompt
from reviewtune.data.sides.review_key import KEY
from reviewtune.deployment.rebase.answers_file import AnswersFile
from reviewtune.deployment.rebase.asking import ask_old
from reviewtune.deployment.rebase.rebase import RebaseOptions, rebase
from reviewtune.deployment.rebase.teacher import TeacherOptions
from reviewtune.deployment.rebase.unlabelled import Unlabelled
from reviewtune.deployment.rebase.weights import weigh
from reviewtune.errors import ConfigError, ProviderError
from reviewtune.evaluation.subject import ModelSubject
from reviewtune.providers.completion import Question
from tests.deployment.rebase.conftest import Project, at_provider
from tests.support.odd_server import CHAT, Asked, odd_server
from tests.support.played_provider import SURE, USAGE
from tests.support.served import provided_by, scored_completion, unreadable_completion

TEACHER, MINI = "ft:old", "gpt-4o-mini-2024-07-18"


def measured(moving: Project) -> int:
    """How many labelled reviews the old model is asked about first."""
    return sum(len(pd.read_csv(moving.paths.splits.part(part))) for part in ("valid", "test"))


def options(moving: Project, **changes: object) -> RebaseOptions:
    teacher = TeacherOptions(model=TEACHER, reviews=moving.unlabelled, **changes)  # type: ignore[arg-type]
    return RebaseOptions(provider="compatible", overrides=moving.at_new, teacher=teacher)


def test_the_old_model_ends_half_way_and_its_answers_are_kept(moving: Project) -> None:
    """It answers the test and validation reviews and 25 of 60 others; then its server is closed."""
    moving.old.dies_after = measured(moving) + 25
    kept = r"HTTP 404: The model was shut down; .* 25 of 60 answers are kept in unlabelled-\w+\.csv: run the same"
    with pytest.raises(ProviderError, match=kept):
        rebase(options(moving), moving.config, moving.folder)
    (file,) = (moving.folder / "data" / "teacher").iterdir()
    before = file.read_bytes()
    assert len(pd.read_csv(file)) == 25
    assert moving.new.jobs == []

    moving.old.server.shutdown()
    moving.old.server.server_close()
    report = rebase(options(moving), moving.config, moving.folder)
    assert report.kept
    assert report.kept.ended
    assert report.old
    assert (report.kept.asked, report.kept.answered, report.kept.not_asked) == (60, 25, 35)
    assert report.kept.ended.startswith("the old model does not answer: provider compatible:")
    assert report.kept.left_out == {"like a test review": 1}
    assert report.old.seen == "asked"
    assert file.read_bytes() == before
    learned(moving, file, report.labelled, report.kept.trained_on)
    assert report.kept.weighting == "calibrated"

    again = rebase(options(moving), moving.config, moving.folder)
    assert (again.kept, again.new, len(moving.new.jobs)) == (report.kept, report.new, 1)
    assert "kept of ft:old: labels of 25 of 60 reviews" in (moving.folder / "reports/rebase/rebase.md").read_text()


def learned(moving: Project, file: Path, labelled: int, answers: int) -> None:
    """The new provider got the labelled reviews and the chosen answers, and no test review."""
    rows, prompt = pd.read_csv(file, dtype=str), Prompt.of(moving.config)
    assert set(rows["label_source"]) == {"teacher ft:old (compatible)"}
    known = {prompt.messages(str(row.text))[-1]["content"]: prompt.answer(str(row.label)) for row in rows.itertuples()}
    lines = [(line["messages"][-2]["content"], line["messages"][-1]["content"]) for line in moving.new.training_lines()]
    taught = [(review, answer) for review, answer in lines if review in known]
    assert len(taught) == answers > 0
    assert len(lines) == labelled + answers
    assert all(known[review] == answer for review, answer in taught)


def test_no_more_is_paid_than_the_budget_and_the_rest_is_trained_on(moving: Project) -> None:
    """The second command finds the budget spent: it asks nothing and finds the same job."""
    config = at_provider(moving.folder, priced_as=MINI, concurrency=1)
    price, asked_first = config.prices.models[MINI].finetuned, measured(moving)
    each = (USAGE["prompt_tokens"] * price.input + USAGE["completion_tokens"] * price.output) / 1e6
    budget = asked_first * each + 0.001
    wanted = options(moving, budget_usd=budget)
    report = rebase(wanted, config, moving.folder)
    assert report.kept
    assert report.kept.ended
    assert 0 < report.kept.answered < 60
    assert asked_first * each < report.kept.spent_usd <= budget
    assert report.kept.ended.startswith("the budget of 0.0")
    asked = moving.old.server.count(CHAT)
    again = rebase(wanted, config, moving.folder)
    assert again.kept == report.kept
    assert (moving.old.server.count(CHAT), len(moving.new.jobs)) == (asked, 1)


def test_one_answer_that_never_can_be_read_stops_no_other_question(config: Config, tmp_path: Path) -> None:
    """The budget allows a part of the reviews at a time."""
    known = next(iter(config.data.labels))
    texts = [f"review {index}" for index in range(6)]
    reviews = pd.DataFrame({KEY: [hashlib.sha256(text.encode()).hexdigest() for text in texts], "text": texts})
    unlabelled = Unlabelled(tmp_path / "new.csv", "0" * 64, reviews, {})
    nobody = pd.DataFrame({"text": [], "label": []})
    file = AnswersFile(tmp_path / "teacher.csv", "teacher", tuple(config.data.labels))

    def answer(asked: Asked) -> object:
        return unreadable_completion() if "review 0" in asked.review else scored_completion(known)

    with odd_server({CHAT: answer}) as server:
        settings = provided_by(config, server.base_url, priced_as=MINI, max_retries=0, concurrency=1)
        subject = ModelSubject.of_finetuned("ft:old", settings)
        tokens = subject.policy.tokens_of(subject.chats(texts)[0])
        most = subject.policy.highest(Question("", {}, tokens), subject.request)
        asked = ask_old(subject, unlabelled, nobody, file, budget_usd=3.5 * most)
    assert (len(asked.rows), asked.not_asked, asked.ended) == (6, 0, None)
    assert sorted(asked.rows["label"]) == ["", *[known] * 5]


def answers(*confidences: float | None) -> pd.DataFrame:
    keys = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(len(confidences))]
    shown = ["" if value is None else f"{value:.4f}" for value in confidences]
    return pd.DataFrame({KEY: keys, "text": keys, "label": "a", "model_label": "a", "confidence": shown})


def test_an_answer_is_taken_in_proportion_to_how_right_the_old_model_is_at_its_confidence() -> None:
    """It says 95 % where it is right in 70 of 100 cases, and 55 % where it is right in 20 of 100."""
    said = [SURE] * 100 + [0.55] * 100
    right = [index % 100 < (70 if index < 100 else 20) for index in range(200)]
    validation = pd.DataFrame({"label": "a", "predicted": ["a" if one else "b" for one in right], "confidence": said})
    weighed = weigh(answers(*[SURE] * 1000, *[0.55] * 50, None), validation)
    assert (weighed.weighting, weighed.too_unsure) == ("calibrated", 50)
    assert weighed.drawn_out == pytest.approx(300, abs=4 * math.sqrt(1000 * 0.7 * 0.3))
    assert len(weighed.rows) == 1001 - weighed.drawn_out  # the one without a confidence is taken
    assert weighed.rows.equals(weigh(answers(*[SURE] * 1000, *[0.55] * 50, None), validation).rows)


def test_answers_without_a_confidence_have_the_same_weight() -> None:
    weighed = weigh(answers(None, None), None)
    assert (len(weighed.rows), weighed.weighting, weighed.too_unsure, weighed.drawn_out) == (2, "none", 0, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": "ft:old"}, "--teacher needs --reviews FILE"),
        ({"reviews": Path("a.csv")}, "--reviews needs --teacher MODEL"),
        ({"budget_usd": 1.0}, "--budget-usd caps the answers of --teacher"),
    ],
)
def test_options_that_need_each_other(given: dict[str, object], message: str) -> None:
    nothing = {"teacher": None, "reviews": None, "text_column": None, "budget_usd": None}
    with pytest.raises(ConfigError, match=message):
        options_of(provider="local", overrides=(), **{**nothing, **given})  # type: ignore[arg-type]
