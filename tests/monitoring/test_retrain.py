"""`reviewtune retrain`: when it is worth it, what is not done twice, what it commits. The champion is a linear arm.

tests/test_month.py runs all steps with `dvc repro`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.terminal.progress import SILENT, TerminalProgress
from reviewtune.data.sides.frozen_file import read_frozen, write_frozen
from reviewtune.data.sides.review_key import review_key
from reviewtune.errors import BudgetError, ConfigError, DataError, GitError
from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.monitoring.retraining import commits
from reviewtune.monitoring.retraining.earlier_champion import earlier_champion
from reviewtune.monitoring.retraining.need import Need, look
from reviewtune.monitoring.retraining.report_file import Retraining, order_of, read_last, write
from reviewtune.monitoring.retraining.retrain import RetrainOptions, retrain, wait_for_pipeline
from reviewtune.providers.answer_cache import AnswerStore, open_store
from reviewtune.providers.budget import Budget, scope, shared
from reviewtune.tracking.process import process_name
from reviewtune.tracking.registry import by_alias, set_tags
from reviewtune.tracking.runs import open_run
from tests.monitoring.labelling_queue.conftest import new_reviews
from tests.support.clones import Clone
from tests.support.tables import read_rows, write_rows

UNFINISHED = Retraining(
    name="reviews",
    order="0" * 64,
    new_labels=3,
    reasons=(),
    why_not="",
    champion_before=1,
    steps=(),
    process=None,
    decision="unfinished",
    failed_gates=(),
    champion=1,
    decided_on=None,
)


@pytest.fixture
def shop(watched: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A copy of the project, which is the working directory, without reports that other tests made."""
    copy = watched.copy(tmp_path / "project")
    shutil.rmtree(copy.folder / "reports" / "monitoring", ignore_errors=True)
    copy.env["PYTHONPATH"] = str(copy.folder)
    monkeypatch.chdir(copy.folder)
    return copy


def need_of(clone: Clone, **limits: Any) -> Need:
    config = load_params(clone.folder / "params.yaml")
    config = config.model_copy(update={"retraining": config.retraining.model_copy(update=limits)})
    return look(config, clone.folder, by_alias(config.tracking, config.registered_name))


def add_labels(clone: Clone, number: int) -> None:
    path = clone.folder / "data/raw/reviews_en.csv"
    rows = read_rows(path)
    empty = dict.fromkeys(rows[0], "")
    made = enumerate(new_reviews(number))
    write_rows(path, [*rows, *({**empty, "review_id": f"q{n}", "text": t, "label": label} for n, (t, label) in made)])


def add_rows(clone: Clone, texts: Sequence[str]) -> None:
    path = clone.folder / "data/raw/reviews_en.csv"
    rows = read_rows(path)
    empty = dict.fromkeys(rows[0], "")
    added = [{**empty, "review_id": f"a{review_key(text, 'en')[:9]}", "text": text} for text in texts]
    write_rows(path, [*rows, *({**row, "label": "damaged_item"} for row in added)])


def note_audit(clone: Clone, right: int, of: int) -> None:
    """As `queue merge` notes it."""
    config = load_params(clone.folder / "params.yaml")
    champion = by_alias(config.tracking, config.registered_name)
    assert champion
    with open_run(config.tracking, name="audit", kind="audit", tags={}) as run:
        run.metrics(proportion(right, of).named("audit_accuracy"))
    set_tags(config.tracking, champion, {"audit_run": run.id})


def note_report(clone: Clone, verdict: str, version: str = "1") -> None:
    """As `monitor` writes it."""
    report = {
        "verdict": verdict, "name": "reviewtune-reviews_en", "model_version": version, "model": "linear",
        "file": "week48.csv", "file_sha256": "0" * 64, "reviews": 0, "compared": 0, "reference_reviews": 0,
        "first_date": None, "last_date": None, "error_rate": 0.05, "tests": [], "topics": [], "labels": [],
        "notes": [],
        "accuracy": {
            "status": "not known", "why": "", "accuracy": None, "reference": None, "method": "none", "label_mix": {},
        },
    }  # fmt: skip
    folder = clone.folder / "reports/monitoring"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "monitoring.json").write_text(json.dumps(report))


class TestNeed:
    def test_without_new_labels_nothing_is_a_reason(self, shop: Clone) -> None:
        assert need_of(shop).why_not == (
            "0 new labels since the last promotion (100 are a reason), no alarm and no low audit of the champion"
        )
        note_report(shop, "alarm")
        need = need_of(shop)
        assert need.reasons == ()
        assert need.why_not.startswith("an alarm about version 1 (week48.csv), but only 0 new labels since")
        assert "`reviewtune queue FILE` chooses what to label" in need.why_not

    def test_enough_labels_an_alarm_and_a_low_audit_are_reasons(self, shop: Clone) -> None:
        add_labels(shop, 25)
        assert need_of(shop).new_labels == 25
        assert need_of(shop).reasons == ()
        assert need_of(shop, new_labels=25).reasons == (
            "25 new labels since the last promotion (retraining.new_labels is 25)",
        )
        note_audit(shop, right=10, of=20)
        assert need_of(shop, min_audit_accuracy=0.7).reasons == (), "the interval reaches 70.1 %"
        assert need_of(shop, min_audit_accuracy=0.75).reasons == (
            "the audit of version 1, 50.0 % [29.9, 70.1], is below 75.0 %",
            "25 new labels since the last promotion",
        )
        note_report(shop, "alarm", version="7")
        assert need_of(shop).reasons == (), "another version's"
        note_report(shop, "alarm")
        assert need_of(shop).reasons[0] == "an alarm about version 1 (week48.csv)"
        assert need_of(shop, alarm=False).reasons == ()
        assert need_of(shop, least_labels=26).reasons == ()
        note_report(shop, "calm")
        assert need_of(shop).reasons == ()

    def test_a_review_that_the_split_leaves_out_is_never_new(self, shop: Clone) -> None:
        """It is like a training review and like a test review, so no promotion can freeze it."""
        beginning = "The kettle came in a box without any padding and the lid was cracked along its whole side. "
        on_train, on_test = f"{beginning}A quick refund.", f"{beginning}I am very angry!"
        add_rows(shop, [on_train, on_test, beginning])
        assert need_of(shop).new_labels == 3
        path = shop.folder / "data/frozen_splits.csv"
        write_frozen(
            {**read_frozen(path), review_key(on_train, "en"): "train", review_key(on_test, "en"): "test"}, path
        )
        assert need_of(shop).new_labels == 0
        add_rows(shop, ["Nobody answers my letters about the wrong bill"])
        assert need_of(shop, new_labels=1).reasons == (
            "1 new label since the last promotion (retraining.new_labels is 1)",
        )


class TestLostStore:
    """mlruns/ is gone: what becomes champion next would be compared with nothing."""

    @pytest.fixture
    def lost(self, shop: Clone) -> Clone:
        report = UNFINISHED.model_copy(update={"name": "reviewtune-reviews_en", "decision": "promoted"})
        write(report, shop.folder)
        shop.run("reviewtune", "classify", "data/raw/reviews_en.csv", "--out", "labels.csv")  # copies the champion
        shutil.rmtree(shop.folder / "mlruns")
        return shop

    def test_nothing_is_trained_or_promoted_and_the_way_out_is_named(self, lost: Clone) -> None:
        said = lost.run("reviewtune", "retrain", "--if-needed", "--promote", ok=False)
        assert said == (
            "error: reviewtune-reviews_en has no champion in MLflow's store mlruns/, but there was one (version 1 by "
            ".work/champion/), so nothing was done: restore the store or correct tracking.uri; if it is lost, "
            "`reviewtune promote` makes a first champion\n"
        )
        assert not (lost.folder / "mlruns").exists()

    def test_each_trace_is_enough(self, lost: Clone) -> None:
        config, folder = load_params(lost.folder / "params.yaml"), lost.folder
        assert earlier_champion(config, folder) == "version 1 by .work/champion/"
        shutil.rmtree(folder / ".work/champion")
        assert earlier_champion(config, folder) == "version 1 by reports/gates.json"
        (folder / "reports/gates.json").unlink()
        assert earlier_champion(config, folder) == "version 1 by reports/retraining.json"
        (folder / "reports/retraining.json").write_text("{")
        assert earlier_champion(config, folder) == ""

    def test_a_promotion_by_a_person_is_the_way_out(self, lost: Clone) -> None:
        lost.commit("all as it is")
        lost.run("reviewtune", "promote", "--arm", "linear")
        assert "not needed: 0 new labels" in lost.run("reviewtune", "retrain", "--if-needed", "--promote")


class TestCommand:
    def test_if_needed_says_why_nothing_is_done(self, shop: Clone) -> None:
        """One line; with --json it is on standard error."""
        words = ["python", "-m", "reviewtune", "retrain", "--if-needed", "--json"]
        done = subprocess.run(words, cwd=shop.folder, env=shop.env, capture_output=True, text=True, check=True)
        found = Retraining.model_validate_json(done.stdout)
        assert (found.decision, found.new_labels, found.champion) == ("not needed", 0, 1)
        assert done.stderr == f"not needed: {found.why_not}\n"
        assert not (shop.folder / "reports/retraining.json").exists()

    def test_a_higher_budget_is_for_the_same_retraining(self, shop: Clone) -> None:
        """So what was spent before counts; another setting makes it another one."""
        config = load_params(shop.folder / "params.yaml")
        capped, raised = (
            config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"budget_usd": usd})})
            for usd in (1.0, 2.0)
        )
        other = config.model_copy(update={"training": config.training.model_copy(update={"seed": 99})})
        data = shop.folder / "data/raw/reviews_en.csv"
        assert order_of(data, capped, "x") == order_of(data, raised, "x") != order_of(data, other, "x")

    def test_a_second_call_does_nothing(self, shop: Clone) -> None:
        (shop.folder / ".work").mkdir(exist_ok=True)
        with (
            FileLock(shop.folder / ".work" / "retraining.lock"),
            pytest.raises(DataError, match="another `reviewtune retrain` works here, so nothing was done"),
        ):
            start(shop)

    def test_unusable_data_stop_before_anything_is_trained(self, shop: Clone) -> None:
        with (shop.folder / "data/raw/reviews_en.csv").open("a") as file:
            file.write("x1,A review with an odd label,lateness,,,\n")
        with pytest.raises(DataError, match="the pipeline would refuse this file"):
            start(shop)
        last = read_last(shop.folder)
        assert last
        assert (last.decision, last.steps) == ("unfinished", ())


@pytest.mark.parametrize(
    ("arm", "reason"),
    [
        ("liner", "arm 'liner' is not one of: "),
        ("majority", "there is nothing to promote"),
        ("checkpoint_1", "would be a leak"),
    ],
)
def test_an_arm_that_cannot_be_promoted_stops_before_anything_is_trained(
    arm: str, reason: str, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=reason):
        retrain(RetrainOptions(arm=arm), config, tmp_path, output=sys.stderr, progress=SILENT)
    assert not list(tmp_path.iterdir())


def start(clone: Clone) -> None:
    config = load_params(clone.folder / "params.yaml")
    retrain(RetrainOptions(), config, clone.folder, output=sys.stderr, progress=SILENT)


def test_a_pipeline_that_a_killed_call_left_behind_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    left = subprocess.Popen(["sleep", "1"])
    wait_for_pipeline(process_name(left.pid), TerminalProgress())
    assert left.poll() == 0
    assert f"(process {left.pid}): waiting until it ends" in capsys.readouterr().out
    wait_for_pipeline(process_name(os.getpid()).replace(":", ":1", 1), SILENT)  # another process has that number now


class TestDecided:
    @pytest.mark.parametrize(
        ("decision", "failed", "is_decided"),
        [
            ("unfinished", (), False),
            ("passed", (), True),
            ("promoted", (), True),
            ("already champion", (), True),
            ("refused", ("accuracy",), True),
            ("refused", ("accuracy", "git"), False),
            ("refused", ("champion",), False),
        ],
    )
    def test_a_refusal_that_may_pass_later_is_no_decision(
        self, decision: str, failed: tuple[str, ...], is_decided: bool, tmp_path: Path
    ) -> None:
        changed = UNFINISHED.model_copy(update={"decision": decision, "failed_gates": failed})
        write(changed, tmp_path)
        last = read_last(tmp_path)
        assert last == changed
        assert last.is_decided == is_decided

    def test_a_damaged_report_is_as_none(self, tmp_path: Path) -> None:
        (tmp_path / "reports").mkdir()
        (tmp_path / "reports/retraining.json").write_text('{"order": ')
        assert read_last(tmp_path) is None


class TestBudget:
    def test_all_steps_share_the_cap_also_in_a_later_call(self) -> None:
        alone = scope()
        with open_store() as store:
            with shared("retraining-1"):
                _spend(store, 0.6)
            with shared("retraining-1"), pytest.raises(BudgetError, match=r"1 USD: 0\.600000 are spent or reserved"):
                _spend(store, 0.6)
            with shared("retraining-2"):
                _spend(store, 0.6)
        assert scope() == alone


def _spend(store: AnswerStore, usd: float) -> None:
    Budget(store, 1.0, scope()).set_aside(usd)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the files of a project."""
    for name in ("raw.csv", "data/queues/q1.json", "data/frozen_splits.csv", "dvc.lock", "reports/a.json", "code.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.name", "t")
    git(tmp_path, "config", "user.email", "t@example.org")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


class TestCommit:
    def test_only_its_own_files_and_only_if_they_changed(self, repository: Path, config: Config) -> None:
        data = config.data.model_copy(update={"path": Path("raw.csv")})
        paths = commits.inputs(config.model_copy(update={"data": data}))
        assert commits.commit(repository, paths, "nothing") == ""
        (repository / "raw.csv").write_text("more")
        (repository / "data/queues/q2.json").write_text("new")
        (repository / "code.py").write_text("staged by a person")
        git(repository, "add", "code.py")
        assert commits.commit(repository, paths, "labels")
        assert git(repository, "show", "--name-only", "--format=%s").split() == [
            "labels", "data/queues/q2.json", "raw.csv",
        ]  # fmt: skip
        assert git(repository, "status", "--porcelain").split() == ["M", "code.py"]

    def test_data_that_git_ignores_are_left_to_dvc(self, repository: Path) -> None:
        git(repository, "rm", "-q", "--cached", "raw.csv")
        (repository / ".gitignore").write_text("raw.csv\n")
        (repository / "dvc.lock").write_text("new")
        assert commits.commit(repository, ("raw.csv", "dvc.lock", "gone"), "results")
        assert git(repository, "show", "--name-only", "--format=").split() == ["dvc.lock"]

    def test_without_a_file_of_its_own_nothing_is_committed(self, repository: Path) -> None:
        (repository / "code.py").write_text("of a person")
        assert commits.commit(repository, ("gone", "gone/too"), "labels") == ""
        assert git(repository, "status", "--porcelain").split() == ["M", "code.py"]

    def test_a_refusal_of_git_names_a_remedy(self, repository: Path) -> None:
        hook = repository / ".git/hooks/pre-commit"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho 'no commits on Sunday' >&2\nexit 1\n")
        hook.chmod(0o755)
        (repository / "dvc.lock").write_text("new")
        with pytest.raises(GitError, match="no commits on Sunday; commit yourself, or set"):
            commits.commit(repository, commits.RESULTS, "results")
