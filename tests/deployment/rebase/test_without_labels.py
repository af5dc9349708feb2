"""`reviewtune rebase --teacher` where all labels are lost: a report on the agreement, and nothing that is not known."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import read_reviews
from reviewtune.data.sides.review_key import KEY
from reviewtune.deployment.rebase.agreement_file import NOT_COMPARED, AgreementReport, read_agreement
from reviewtune.deployment.rebase.answers_file import AnswersFile
from reviewtune.deployment.rebase.held_out import held_out_sides, write_held_out
from reviewtune.deployment.rebase.teacher import TeacherOptions
from reviewtune.deployment.rebase.without_labels import labels_are_lost, rebase_without_labels
from reviewtune.errors import DataError
from tests.deployment.rebase.conftest import Project
from tests.support.odd_server import CHAT


def lose_labels(moving: Project) -> None:
    """What is left are the settings and data/frozen_splits.csv."""
    assert not labels_are_lost(moving.config, moving.folder)
    read_reviews(moving.paths.labeled).head(300)[["text"]].to_csv(moving.unlabelled, index=False)
    shutil.rmtree(moving.paths.splits.folder)
    moving.paths.labeled.unlink()
    (moving.folder / moving.config.data.path).unlink()
    assert labels_are_lost(moving.config, moving.folder)


def moved(moving: Project) -> AgreementReport:
    teacher = TeacherOptions(model="ft:old", reviews=moving.unlabelled)
    return rebase_without_labels("compatible", moving.at_new, teacher, moving.config, moving.folder)


def answers_of(moving: Project) -> pd.DataFrame:
    (path,) = moving.paths.teacher_answers.iterdir()
    return AnswersFile(path, "", tuple(moving.config.data.labels)).read()


def test_both_models_are_compared_on_answers_that_were_held_out(moving: Project) -> None:
    """The old model is wrong about a tenth, the new one about none; without labels only the difference is seen."""
    lose_labels(moving)
    report = moved(moving)
    answers, prompt = answers_of(moving), Prompt.of(moving.config)
    sides = held_out_sides(answers, moving.config.split)
    held_out = answers[sides == "test"]
    asked = [prompt.messages(text)[-1]["content"] for text in held_out["text"]]
    same = sum(moving.new.truth[review] == label for review, label in zip(asked, held_out["label"], strict=True))
    assert report.n == len(held_out)
    assert report.agreement.value == pytest.approx(same / len(held_out), abs=1e-6)
    assert 10 <= len(held_out) < 50 < (sides == "train").sum()
    learned = {line["messages"][-2]["content"] for line in moving.new.training_lines()}
    assert learned
    assert learned.isdisjoint(asked)
    assert report.kept.answered == len(answers) > 250
    assert report.kept.validation_accuracy is None
    assert report.not_compared == NOT_COMPARED
    assert sum(one.reviews for one in report.labels) == report.n
    table = pd.read_csv(moving.folder / "reports/rebase/held_out.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == ["review_id", "text", "old_model", "new_model", "label"]
    assert set(table["review_id"]) == set(held_out.iloc[:, 0])
    assert "**Not judged**" in (moving.folder / "reports/rebase/agreement.md").read_text()
    assert not (moving.folder / "reports/rebase/rebase.json").exists()

    counts = moving.old.server.count(CHAT), moving.new.server.count(CHAT)
    moving.old.dies_after = 0
    assert moved(moving) == report == read_agreement(moving.folder)
    assert (moving.old.server.count(CHAT), moving.new.server.count(CHAT), len(moving.new.jobs)) == (*counts, 1)

    typed = table.assign(label=["damaged_item", *[""] * (len(table) - 1)])
    typed.loc[len(typed)] = ["of another split", "It is broken", "refund", "damaged_item", "damaged_item"]
    path = moving.folder / "reports/rebase/held_out.csv"
    path.write_bytes(typed.to_csv(index=False, sep=";").encode("utf-8-sig"))  # as Excel saves it in Europe
    moved(moving)
    kept = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert kept[kept["label"] != ""]["review_id"].tolist() == [table["review_id"][0], "of another split"]
    assert len(kept) == len(table) + 1


def test_a_corrected_label_is_no_answer_of_the_old_model(config: Config, tmp_path: Path) -> None:
    """The new model learns it; on held-out reviews, the agreement is with what the old model said."""
    keys = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(200)]
    rows = pd.DataFrame({KEY: keys, "text": keys, "label": "no_issue", "model_label": "refund_return"})
    rows.loc[::5, "model_label"] = ""
    sides = held_out_sides(rows, config.split)
    (tmp_path / "answers.csv").touch()
    splits = write_held_out(rows, sides, config, tmp_path / "answers.csv", tmp_path)
    assert set(splits.test["label"]) == {"refund_return"}
    assert set(splits.train["label"]) == set(splits.valid["label"]) == {"no_issue"}
    assert set(splits.test["review_id"]) <= set(rows[rows["model_label"] != ""][KEY])


def test_the_command_says_what_is_not_known_and_ends_with_status_3(moving: Project, answers: Path) -> None:
    lose_labels(moving)
    words = ["rebase", "--provider", "compatible", "--teacher", "ft:old", "--reviews", moving.unlabelled.name]
    command = [sys.executable, "-m", "reviewtune", *words, *moving.at_new]
    environment = {**moving.environment, "REVIEWTUNE_HOME": str(answers.parent)}
    done = subprocess.run(command, cwd=moving.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 3, done.stdout + done.stderr
    assert (
        "data/raw/reviews_en.csv is missing: no labelled review, so only the agreement can be measured" in done.stdout
    )
    assert "not compared: accuracy of either model: no person has labelled a review here" in done.stdout
    assert "next: label the reviews in reports/rebase/held_out.csv" in done.stdout


def test_too_few_answers_are_one_line_and_nothing_is_trained(moving: Project) -> None:
    lose_labels(moving)
    pd.read_csv(moving.unlabelled).head(2).to_csv(moving.unlabelled, index=False)
    with pytest.raises(DataError, match=r"too few answers to train with some and to hold others out \("):
        moved(moving)
    assert moving.new.jobs == []
