"""Every command with an output checks it first, writes through links and devices, and loses nobody's file."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reviewtune.commands import jobs, main, runs
from reviewtune.commands.monitoring import app as monitoring
from reviewtune.errors import DataError

REVIEWS = "text,label\n" + "".join(
    f"the parcel {number} came late,late\nbroken glass {number},broken\n" for number in range(12)
)


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labelled file in a folder that is not in a project; nothing here needs a provider."""
    monkeypatch.chdir(tmp_path)
    path = Path("reviews.csv")
    path.write_text(REVIEWS)
    return path


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "--out": lambda reviews, out: main.check_data(reviews, out=out),
    "--label-errors": lambda reviews, out: main.check_data(reviews, label_errors=out),
    "--mask": lambda reviews, out: main.check_data(reviews, mask=out),
    "--picture": lambda _, out: runs.lineage("1234", picture=out),
    "--out of curve": lambda _, out: jobs.curve(out),
    "--out of classify": lambda reviews, out: main.classify(reviews, out),
    "--unsure-to": lambda reviews, out: main.classify(reviews, Path("all.csv"), unsure_to=out),
    "--out of queue": lambda reviews, out: monitoring.choose(reviews, [out.with_suffix(".csv")]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_cannot_be_written_is_refused_before_anything_else(name: str, reviews: Path) -> None:
    option = name.partition(" of ")[0]
    with pytest.raises(DataError, match=rf"{option} no/such/dir/x\.(png|csv): there is no folder"):
        COMMANDS[name](reviews, Path("no/such/dir/x.png"))
    Path("folder.csv").mkdir()
    with pytest.raises(DataError, match=rf"{option} folder\.csv: this is a folder"):
        COMMANDS[name](reviews, Path("folder.csv"))
    assert sorted(path.name for path in Path().iterdir()) == ["folder.csv", "reviews.csv"]


@pytest.mark.parametrize(
    ("option", "beginning"), [("--out", "<!doctype html>"), ("--label-errors", "rank,"), ("--mask", "text,label")]
)
def test_standard_output_gets_the_file_and_nothing_else(option: str, beginning: str, reviews: Path) -> None:
    for stdout in ("-", "/dev/stdout"):
        program = "from reviewtune.commands.main import main; main()"
        command = [sys.executable, "-c", program, "check-data", str(reviews), option, stdout]
        with Path("shown").open("wb") as shown:
            done = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, text=True)
        assert Path("shown").read_text().lower().startswith(beginning), done.stderr
        assert "Format" in done.stderr
    assert Path("/dev/stdout").is_symlink()


def test_a_link_to_an_earlier_report_stays_a_link(reviews: Path) -> None:
    Path("linked.html").symlink_to("report.html")
    main.check_data(reviews, out=Path("linked.html"))
    main.check_data(reviews, out=Path("linked.html"))
    assert Path("linked.html").is_symlink()
    assert "check-data" in Path("report.html").read_text()


@pytest.mark.parametrize("name", ["x.parquet", "x.xls", "x.json", "x.tsv", "out.v2/"])
def test_classify_writes_no_csv_under_another_ending(name: str, reviews: Path) -> None:
    with pytest.raises(
        DataError, match=r"--out .*: its name must end in \.csv or \.xlsx.*; parts are written into a folder"
    ):
        main.classify(reviews, Path(name))
    with pytest.raises(DataError, match=r"--unsure-to .*: its name must end in \.csv or \.xlsx"):
        main.classify(reviews, Path("all.csv"), unsure_to=Path(name))


def test_two_outputs_cannot_share_standard_output(reviews: Path) -> None:
    with pytest.raises(DataError, match="need different files"):
        main.check_data(reviews, out=Path("-"), mask=Path("-"))
    with pytest.raises(DataError, match="need different files"):
        main.check_data(reviews, out=Path("-"), as_json=True)
    Path("link.csv").symlink_to("sure.csv")
    for out, unsure in (("-", "/dev/stdout"), ("sure.csv", "link.csv")):
        with pytest.raises(DataError, match=f"--out and --unsure-to are both {out}; name two files"):
            main.classify(reviews, Path(out), unsure_to=Path(unsure))


def test_a_file_of_somebody_else_is_not_overwritten(reviews: Path) -> None:
    Path("mine.html").write_text("my page")
    for option in ("--out", "--label-errors", "--mask"):
        with pytest.raises(DataError, match=r"mine\.html: already exists and "):
            COMMANDS[option](reviews, Path("mine.html"))
    assert Path("mine.html").read_text() == "my page"


def test_a_folder_for_a_report_is_checked_before_the_new_reviews_are_read(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(project)
    with pytest.raises(DataError, match=r"--out .*/file: .*is not a folder; name a folder for monitoring\.json"):
        monitoring.monitor(tmp_path / "none.csv", out=tmp_path / "file")


def test_evaluate_loses_no_file(reviews: Path) -> None:
    """Refused before params.yaml is read, of which there is none here."""
    Path("dvc.yaml").touch()
    Path("file").touch()
    Path("mine").mkdir()
    Path("mine/predictions.csv").write_text("mine")
    Path("other").mkdir()
    Path("other/metrics.json").write_text('{"loss": 0.3}')
    Path("old").mkdir()
    Path("old/metrics.json").write_text('{"accuracy": 0.5, "weighted_f1": 0.5, "macro_f1": 0.5}')
    for out, compare, message in (
        ("file", None, "file is not a folder"),
        ("/dev/stdout", None, "is not a folder"),
        ("mine", None, r"predictions\.csv is not from an evaluation"),
        ("other", None, r"other/metrics\.json: "),
        ("reports/arms/finetuned", None, "`dvc repro` writes there"),
        ("old", "old/metrics.json", r"metrics\.json would be overwritten, but it is read now"),
    ):
        with pytest.raises(DataError, match=message):
            main.evaluate(reviews, out=Path(out), compare=Path(compare) if compare else None)
    assert Path("mine/predictions.csv").read_text() == "mine"
