"""`reviewtune rebase`: the champion's data on another provider, and the parity report."""

import json
from pathlib import Path

import pytest

from reviewtune.commands.deployment.promote import promote
from reviewtune.core.config.config import Config
from reviewtune.core.folders import in_use
from reviewtune.core.terminal.progress import Silent
from reviewtune.data.reviews import read_reviews, sha256
from reviewtune.deployment.candidate import find_candidate
from reviewtune.deployment.promotion import PromoteOptions
from reviewtune.deployment.rebase.parity_file import RebaseReport, read_report
from reviewtune.deployment.rebase.rebase import RebaseOptions, rebase
from reviewtune.errors import ConfigError, DataError
from reviewtune.finetuning.jobs import Order
from reviewtune.finetuning.train import train
from reviewtune.tracking.queries import find_run
from reviewtune.tracking.runs import open_run
from tests.deployment.rebase.conftest import Project
from tests.support.odd_server import CHAT
from tests.support.registry import promote_served
from tests.support.served import NOWHERE, served_folder


def trained(moving: Project) -> str:
    """The old model's name, after a fine-tune at the old provider."""
    config, paths = moving.config, moving.paths
    with open_run(config.tracking, name="finetune", kind="finetune", tags={}) as run:
        order = Order.of(config, paths.chat)
        record, _ = train(run, config, order, splits=paths.splits, models=paths.models, reports=paths.reports)
    return record.model


def moved(moving: Project, *more: str) -> RebaseReport:
    options = RebaseOptions(provider="compatible", overrides=(*moving.at_new, *more))
    return rebase(options, moving.config, moving.folder)


def test_the_new_model_is_compared_on_the_frozen_test_reviews(moving: Project) -> None:
    """The old provider is shut down after its answers: the same command reports the same, and nothing is paid twice."""
    trained(moving)
    report = moved(moving)
    assert report.old
    assert report.test
    assert report.agreement
    assert report.new.accuracy.value == 1.0
    assert report.old.accuracy.value < 1.0
    assert report.test.only_this_right == round(report.n * (1 - report.old.accuracy.value))
    assert report.test.only_other_right == 0
    assert report.agreement.value == pytest.approx(report.old.accuracy.value, abs=1e-6)
    assert report.old.mean_confidence
    assert report.new.latency_p95
    assert {gate.name for gate in report.gates} >= {"accuracy", "labels", "latency", "cost", "calibration"}
    assert (report.verdict, report.notes) == ("passed", ()), report.failed
    assert read_report(moving.folder) == report
    markdown = (moving.folder / "reports/rebase/rebase.md").read_text()
    assert "the fine-tune of the last `dvc repro` against ft:played:0" in markdown

    (file,) = (moving.folder / ".work/rebase").glob("*/chat/training_data.jsonl")
    assert file.read_bytes() == moving.paths.chat.training.read_bytes()  # so the pipeline's own job is found

    asked = moving.new.server.count(CHAT)
    moving.old.dies_after = 0
    assert moved(moving) == report
    assert len(moving.new.jobs) == 1
    promotable(moving, report)
    assert moving.new.server.count(CHAT) == asked


class Watching(Silent):
    """Notes at each message whether `reviewtune clean` would leave the folders of .work/rebase/ alone."""

    def __init__(self, moving: Project) -> None:
        self.place, self.seen = moving.folder / ".work" / "rebase", list[bool]()

    def message(self, text: str) -> None:
        self.seen += [in_use(folder) for folder in self.place.glob("*/")]


def test_clean_leaves_the_folder_alone_while_it_runs(moving: Project) -> None:
    trained(moving)
    watching = Watching(moving)
    options = RebaseOptions(provider="compatible", overrides=moving.at_new)
    rebase(options, moving.config, moving.folder, progress=watching)
    assert watching.seen
    assert all(watching.seen)
    assert not any(in_use(folder) for folder in watching.place.glob("*/"))


def promotable(moving: Project, report: RebaseReport) -> None:
    """`reviewtune promote RUN_ID` takes the result."""
    candidate = find_candidate(moving.config, moving.folder, run_id=report.run_id[:12], arm=None)
    assert candidate.asked.model == report.new.model
    assert candidate.training_sha256 == report.training_sha256
    assert candidate.measured.accuracy == report.new.accuracy
    run = find_run(moving.config.tracking, report.run_id)
    assert (run.tags["parity"], run.tags["rebase"], run.tags["gate.accuracy"]) == ("passed", "compatible", "passed")


def test_promote_prints_the_report_alone_as_json(moving: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """What the answer cache had goes to standard error."""
    trained(moving)
    run_id = moved(moving).run_id
    capsys.readouterr()
    with pytest.raises(SystemExit):
        promote(PromoteOptions(run_id=run_id, only_gates=True), as_json=True)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["name"] == moving.config.registered_name
    assert "kept from before" in shown.err


def test_a_champion_whose_provider_is_gone_is_compared_by_its_promotion(moving: Project, tmp_path: Path) -> None:
    """It was always right, the new model often is not: the gates fail."""
    test = read_reviews(moving.paths.splits.test)
    provenance = NOWHERE.model_copy(update={"test_sha256": sha256(moving.paths.splits.test)})
    folder = served_folder(tmp_path / "served", moving.config, model="ft:gone", provenance=provenance)
    test[["review_id", "label"]].assign(predicted=test["label"]).to_csv(folder / "test_predictions.csv", index=False)
    promote_served(moving.config, folder, tmp_path)
    moving.old.dies_after, moving.new.share_wrong = 0, 0.6
    report = moved(moving)
    assert report.old
    assert report.test
    assert (report.old.title, report.old.seen) == ("the champion (version 1, finetuned)", "promotion")
    assert report.old.accuracy.value == 1.0
    assert report.old.cost_per_1k is None
    assert (report.verdict, report.test.verdict) == ("failed", "worse")
    assert "accuracy" in [gate.name for gate in report.failed]
    assert report.notes[0].startswith(
        "the old model does not answer: provider compatible: HTTP 404: The model was shut"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("prompt=detailed",),
            "prompt cannot be set here: old and new model are compared with the same data",
        ),
        (("provider=azure",), "provider cannot be set here"),
        (("provider.base_model",), "provider.base_model: not a setting; write it as provider.base_model=NAME"),
    ],
)
def test_only_provider_and_training_may_differ(moving: Project, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rebase(RebaseOptions(provider="compatible", overrides=overrides), moving.config, moving.folder)


def test_there_must_be_a_model_to_leave(moving: Project) -> None:
    with pytest.raises(
        DataError, match=r"has no champion, and there is no finetuned\.json: nothing to leave; name the"
    ):
        moved(moving)
    assert moving.new.jobs == []


def test_other_data_than_the_splits_are_refused(moving: Project) -> None:
    data = moving.config.data.model_copy(update={"max_characters": 99})
    config: Config = moving.config.model_copy(update={"data": data})
    with pytest.raises(ConfigError, match=r"conf/ and params\.yaml differ in the section data: run `make params`"):
        rebase(RebaseOptions(provider="compatible", overrides=moving.at_new), config, moving.folder)
