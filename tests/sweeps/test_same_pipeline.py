"""The pipeline is one: stages, sweep jobs and `check-data --finetune` write the same files for equal settings.

The real stages run in a small copy of the project, over reviews with personal data and conflicting labels.
"""

import csv
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from reviewtune.commands.main import app
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.core.project import ChatFiles, ProjectPaths, SplitFiles
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.data.preparation import write_splits
from reviewtune.errors import ConfigError, DataError
from reviewtune.finetuning.jobs import Order
from reviewtune.sweeps.job import Job, composed, refuse_varied
from reviewtune.sweeps.run_job import prepare_job
from reviewtune.sweeps.sweep import check_all
from tests.support.sweep_project import edit, make_project

RAW = Path("data/raw/reviews_en.csv")
MASKED = ("data.mask_personal=true",)
ALL = (*MASKED, "data.conflicts=drop", "data.train_size=52", "prompt=detailed", "data.slices=[product]")


@pytest.fixture
def place(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as working directory; conflicts are resolved by majority, since the reviews have some."""
    folder = make_project(project, tmp_path / "project", "some-model")
    edit(folder / "conf/config.yaml", "conflicts: refuse", "conflicts: majority")
    edit(folder / "conf/config.yaml", "train_size: 33", "train_size: 44")  # the least that check-data takes is 40
    monkeypatch.chdir(folder)
    with RAW.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(extra_reviews())
    return folder


def extra_reviews() -> list[tuple[str, ...]]:
    """24 reviews with an address each, two that differ only in it, and two texts with conflicting labels."""
    labels = ("delivery_delay", "wrong_item")
    texts = [(f"box {n * 7919} never came, write to jane{n}@mail.example", labels[n % 2]) for n in range(24)]
    texts += [(f"the lid of my jar was open, {name}@mail.example", "damaged_item") for name in ("ann", "bob")]
    texts += [("too late and too dear", label) for label in ("delivery_delay", "delivery_delay", "price_value")]
    texts += [("blue, and broken in two", label) for label in labels]
    return [(f"x-{n}", text, label, label, "box", "0") for n, (text, label) in enumerate(texts)]


def run_stages(*overrides: str) -> None:
    """`dvc repro format` without DVC: the real stages, one after the other, in this process."""
    ProjectPaths().params.write_text(compose_text(overrides, Path("conf")))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("prepare", "split", "format"):
            patch.setattr(sys, "argv", [f"stages/{name}.py"])
            runpy.run_path(f"stages/{name}.py", run_name="__main__")


def check_data(path: Path) -> Result:
    """`reviewtune check-data FILE --finetune` without `--yes`: plans the jobs, starts none."""
    return CliRunner().invoke(app, ["check-data", str(path), "--finetune"])


def largest(path: Path) -> ChatFiles:
    """The chat files of the largest job that check-data planned."""
    ran = check_data(path)
    assert isinstance(ran.exception, DataError)
    assert "--yes" in str(ran.exception)  # nobody agreed to the costs
    folders = [folder for folder in Path(".work/check-data").glob("*/*") if folder.name.isdigit()]
    assert len(folders) == 4
    return ChatFiles(max(folders, key=lambda folder: int(folder.name)))


def split_bytes(files: SplitFiles) -> list[bytes]:
    return [path.read_bytes() for path in (files.train, files.valid, files.test, files.manifest)]


def chat_bytes(files: ChatFiles) -> list[bytes]:
    return [path.read_bytes() for path in files.both]


def prepared(*overrides: str) -> Job:
    job = composed(overrides)
    prepare_job(job)
    return job


@pytest.mark.parametrize(
    "overrides",
    [MASKED, ("data.conflicts=drop",), ("data.train_size=all", "prompt=detailed"), ("data.slices=[]",), ALL],
    ids=" ".join,
)
def test_every_path_writes_the_same_files_and_orders_the_same_job(place: Path, overrides: tuple[str, ...]) -> None:
    run_stages(*overrides)
    config, paths, job = load_params(), ProjectPaths(), prepared(*overrides)
    assert split_bytes(job.splits) == split_bytes(paths.splits)
    assert chat_bytes(job.chat) == chat_bytes(paths.chat)
    planned = largest(RAW)
    assert chat_bytes(planned) == chat_bytes(paths.chat)
    keys = {Order.of(config, chat).key for chat in (paths.chat, job.chat, planned)}
    assert len(keys) == 1
    assert Order.of(job.config, job.chat).key in keys


def test_no_path_writes_personal_data_that_is_to_be_masked(place: Path) -> None:
    run_stages(*MASKED)
    for chat in (ProjectPaths().chat, prepared(*MASKED).chat, largest(RAW)):
        both = b"".join(chat_bytes(chat))
        assert both.count(b"[EMAIL]") > 1
        assert b"@mail.example" not in both


def test_a_foreign_file_is_masked_as_params_yaml_says(place: Path, tmp_path: Path) -> None:
    """A file that no conf/data describes."""
    foreign = tmp_path / "foreign.csv"
    foreign.write_bytes(RAW.read_bytes())
    ProjectPaths().params.write_text(compose_text(MASKED, Path("conf")))
    both = b"".join(chat_bytes(largest(foreign)))
    assert b"[EMAIL]" in both
    assert b"@mail.example" not in both


def test_unmasked_splits_of_an_earlier_version_are_not_used_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits are shared between jobs only if the code that wrote them is the same."""
    before = prepared(*MASKED).splits.folder
    monkeypatch.setattr("reviewtune.sweeps.job.code_sha256", lambda root, stages=(): "changed code")
    assert prepared(*MASKED).splits.folder != before


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.checkpoints=[1]",
        "arms.zero_shot.shots=2",
        "arm@arms=[linear,zero_shot]",
        "promotion.margin=0.1",
        "retraining.new_labels=5",
    ],
)
def test_a_setting_without_effect_in_a_sweep_is_refused_by_name(place: Path, override: str) -> None:
    name = override.partition("=")[0]
    with pytest.raises(ConfigError, match=f"1 of 2 combinations are faulty.*{name} has no effect in a sweep"):
        check_all([[], [override]])


def test_a_setting_of_the_whole_sweep_cannot_vary() -> None:
    refuse_varied(["training.seed", "evaluation.seed"])
    for key in ("tracking.experiment", "evaluation.budget_usd", "lifecycle.warn_days"):
        with pytest.raises(ConfigError, match=f"{key} cannot be varied"):
            refuse_varied(["training.seed", key])


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.injections=true",
        "evaluation.repeats=2",
        "evaluation.checkpoints=[1]",
        "evaluation.label_scores=corrected",
    ],
)
def test_a_setting_that_the_learning_curve_ignores_is_refused_by_name(place: Path, override: str) -> None:
    ProjectPaths().params.write_text(compose_text([override], Path("conf")))
    ran = check_data(RAW)
    assert isinstance(ran.exception, ConfigError)
    assert override.partition("=")[0] in str(ran.exception)


def test_warnings_about_chat_files_are_reported_once_by_every_command(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the second command finds the files of the first
        check_all([["training.seed=1"], ["training.seed=2"]], progress=TerminalProgress())
        shown = capsys.readouterr().out
        assert shown.count("warning: [training.seed=1] training_data.jsonl: 44 examples, at least 100 are advised") == 1
        assert "[training.seed=2]" not in shown


def appended(n: int) -> None:
    """Reviews that come later, some of them near-duplicates of those of `extra_reviews`."""
    with RAW.open("a", encoding="utf-8", newline="") as file:
        for at, row in enumerate(extra_reviews()[:n]):
            text = f"{row[1]}!!" if at % 3 else f"later: {row[1][::-1]}"
            csv.writer(file, lineterminator="\n").writerow((f"y-{at}", text, *row[2:]))


def test_every_path_keeps_frozen_sides(place: Path) -> None:
    run_stages(*MASKED)
    paths, before, earlier = ProjectPaths(), split_bytes(ProjectPaths().splits), prepared(*MASKED)
    tested = set(pd.read_csv(paths.splits.test)["review_id"])
    assert CliRunner().invoke(app, ["freeze-splits"]).exit_code == 0
    run_stages(*MASKED)
    assert split_bytes(paths.splits) == before
    appended(12)
    run_stages(*MASKED)
    job = prepared(*MASKED)
    assert job.splits.folder != earlier.splits.folder
    assert split_bytes(job.splits) == split_bytes(paths.splits) != before
    assert chat_bytes(largest(RAW)) == chat_bytes(paths.chat) == chat_bytes(job.chat)
    assert tested <= set(pd.read_csv(paths.splits.test)["review_id"])


def test_every_path_takes_the_sides_of_the_file(place: Path) -> None:
    table = pd.read_csv(RAW, dtype=str, keep_default_na=False)
    words = ["test", "train", "valid", "", "train", "train"]
    table.assign(part=[words[at % 6] for at in range(len(table))]).to_csv(RAW, index=False)
    edit(Path("conf/data/reviews_en.yaml"), "  id: review_id", "  id: review_id\n  split: part")
    run_stages()
    paths, job = ProjectPaths(), prepared()
    assert split_bytes(job.splits) == split_bytes(paths.splits)
    assert chat_bytes(largest(RAW)) == chat_bytes(paths.chat)
    assert len(pd.read_csv(paths.splits.test)) > len(table) / 6  # those of the file, not the 6 % of conf/


def test_a_damaged_file_of_frozen_sides_stops_every_path_with_one_line(place: Path) -> None:
    run_stages()
    frozen = ProjectPaths().frozen_splits
    frozen.write_text("review_sha256_v1,side\n<<<<<<< HEAD\n")
    message = r"frozen_splits.csv line 2: git left a merge conflict"
    with pytest.raises(DataError, match=message):
        write_splits(load_params(), ProjectPaths().labeled, ProjectPaths().splits, frozen=frozen)
    with pytest.raises(ConfigError, match=message):
        check_all([["training.seed=1"]])
    for arguments in (["check-data", str(RAW)], ["freeze-splits"]):
        ran = CliRunner().invoke(app, arguments)
        assert isinstance(ran.exception, DataError)
        assert "git left a merge conflict" in str(ran.exception)
