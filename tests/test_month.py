"""A month of a shop with real parts: launch, a calm week, a new topic, labels, a retraining that is killed twice.

Everything is real but the size of the language model. What customers write next, and how a person labels it, is known:
it is the part of the labelled reviews that the project does not start with.
"""

import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.clones import Clone
from tests.support.serving import wait_for
from tests.support.tables import read_rows, write_rows

pytestmark = pytest.mark.pipeline
KNOWN = 240  # reviews that are labelled at the launch
TOPIC_LABEL = "poor_quality"
RETRAIN = ("reviewtune", "retrain", "--if-needed", "--commit", "--promote")


class Shop(NamedTuple):
    """The project, the reviews that come after the launch, and those about its new app, which nobody expects."""

    clone: Clone
    later: list[dict[str, str]]
    topic: list[dict[str, str]]

    def week(self, name: str, start: int, size: int, topic: slice = slice(0)) -> str:
        """Write a week's reviews; returns the file's name."""
        rows = [*self.later[start : start + size], *self.topic[topic]]
        write_rows(self.clone.folder / name, [{"text": row["text"]} for row in rows])
        return name

    def label_of(self, text: str) -> str:
        return {row["text"]: row["label"] for row in [*self.later, *self.topic]}[text]

    def status(self, *words: str) -> tuple[int, str]:
        """Exit status and output of a command."""
        process = self.clone.start(*words)
        said, _ = process.communicate()
        return process.returncode, said

    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = self.clone.json("reports/retraining.json")
        return content


@pytest.fixture(scope="module")
def shop(project: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small project. Its gates have room for the noise of sixty test reviews."""
    clone = Clone.of(project, tmp_path_factory.mktemp("month") / "shop", tiny_model)
    clone.edit("conf/config.yaml", "train_size: 66", "train_size: all")
    clone.edit("conf/config.yaml", "test: 0.06", "test: 0.25")
    clone.edit("conf/config.yaml", "validation: 0.08", "validation: 0.2")
    clone.edit("conf/config.yaml", r"      - few_shot\n      - few_shot_cot\n", "")
    clone.edit("conf/promotion/default.yaml", r"margin: \S+", "margin: 0.1")
    clone.edit("conf/promotion/default.yaml", r"min_resisted: \S+", "min_resisted: null")
    clone.edit("conf/promotion/default.yaml", r"max_calibration_error: \S+", "max_calibration_error: null")
    raw = clone.folder / "data/raw/reviews_en.csv"
    rows = read_rows(raw)
    random.Random(1).shuffle(rows)
    write_rows(raw, rows[:KNOWN])
    clone.write_params()
    clone.commit("a small shop")
    about_the_app = read_rows(project / "benchmarks/new_topic.csv")
    yield Shop(clone, rows[KNOWN:], [{**row, "label": TOPIC_LABEL} for row in about_the_app])
    clone.end_server()


def test_a_month(shop: Shop) -> None:
    clone = shop.clone
    _launch(clone)
    status, said = shop.status("reviewtune", "monitor", shop.week("week1.csv", 0, 120))
    assert status == 0, said
    status, said = shop.status(*RETRAIN)
    assert (status, said.count("\n")) == (0, 1), said
    assert "not needed: 0 new labels since the last promotion (100 are a reason), no alarm and no low audit" in said
    status, said = shop.status("reviewtune", "monitor", shop.week("week3.csv", 120, 100, slice(40)))
    assert status == 3, said
    assert "new topic" in said
    _label(shop, "week3.csv")
    _killed_twice(shop)
    status, said = shop.status(*RETRAIN)
    assert status == 0, said
    assert "waiting until it ends" in said
    assert "done before: 300 rows" in said
    assert "version 2 is champion" in said
    assert (clone.jobs(), len(clone.runs("tags.kind = 'finetune'"))) == (2, 2), "one job at the launch and one now"
    assert not clone.runs("attributes.status = 'RUNNING'")
    assert clone.git("status", "--porcelain", "--untracked-files=no") == ""
    report = shop.report()
    assert (report["decision"], report["champion_before"], report["champion"]) == ("promoted", 1, 2)
    assert report["reasons"][0].startswith("an alarm about version 1 (week3.csv)")
    status, said = shop.status("reviewtune", "monitor", shop.week("week4.csv", 220, 100, slice(40, None)))
    assert status == 0, said
    status, said = shop.status(*RETRAIN, "--json")
    assert status == 0, said


def _launch(clone: Clone) -> None:
    clone.repro()
    clone.commit("first results")
    assert "version 1 is champion" in clone.run("reviewtune", "promote", "--arm", "linear")
    clone.commit("the first champion")


def _label(shop: Shop, week: str) -> None:
    """A person labels what the queue asks for, and a spreadsheet program saves the file in its own way."""
    folder = shop.clone.folder
    shop.clone.run("reviewtune", "queue", week, "--size", "60", "--audit", "20", "--out", "to_label.csv")
    rows = [{**row, "label": shop.label_of(row["text"])} for row in read_rows(folder / "to_label.csv")]
    write_rows(folder / "to_label.csv", [dict(reversed(row.items())) for row in rows], delimiter=";")
    said = shop.clone.run("reviewtune", "queue", "merge", "to_label.csv")
    assert "60 reviews appended to data/raw/reviews_en.csv" in said
    assert "audit: reviewtune-reviews_en version 1 is right on" in said


def _killed_twice(shop: Shop) -> None:
    """Once with all its processes while the job trains, once alone, so that its `dvc repro` goes on."""
    clone = shop.clone
    process = clone.start(*RETRAIN)
    wait_for(lambda: clone.jobs() == 2, 300)
    os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    assert "pipeline: `dvc repro`" in said
    dead = shop.report()["process"]
    with (clone.folder / ".work" / "said.txt").open("w") as out:  # a pipe without a reader would end DVC too
        alone = subprocess.Popen(RETRAIN, cwd=clone.folder, env=clone.env, stdout=out, stderr=out, text=True)
    wait_for(lambda: shop.report()["process"] not in (None, dead), 300)
    os.kill(alone.pid, signal.SIGKILL)
    alone.wait()
