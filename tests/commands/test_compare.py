"""`reviewtune compare --html` in a project with a real MLflow store."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from reviewtune.commands import main
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.deployment.gates_file import Contender, Gate, GateReport, write_gates
from reviewtune.errors import DataError
from reviewtune.tracking.provenance import log_pass
from tests.support.comparison_files import Folder, write_comparison
from tests.support.tracking import stored

LABELS = ["late", "broken", "other"]
PROGRAM = "from reviewtune.commands.main import main; main()"


@pytest.fixture
def place(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A project with a comparison; it is the working directory."""
    folder = write_comparison(tmp_path / "project", LABELS, 40, validation=40)
    (folder.root / "dvc.yaml").touch()
    (folder.root / "params.yaml").write_text(compose_text(conf=project / "conf"), encoding="utf-8")
    monkeypatch.chdir(folder.root)
    return folder


def log_the_comparison(folder: Folder, note: str = "") -> str:
    """As stage compare does; returns the run's id."""
    tracking = load_params(folder.root / "params.yaml").tracking
    log_pass(tracking, folder.comparison.test_sha256, [], [folder.reports / "comparison.json"], note)
    client: MlflowClient = stored()
    return str(client.search_runs(["1"], order_by=["attributes.start_time DESC"])[0].info.run_id)


def test_the_page_is_written_and_logged_to_its_run(place: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    mine = log_the_comparison(place)
    content = (place.reports / "comparison.json").read_text()
    (place.reports / "comparison.json").write_text(content.replace("zero_shot", "zero_shoot"))
    other = log_the_comparison(place)
    (place.reports / "comparison.json").write_text(content)
    main.compare(html=Path("page.html"))
    shown = capsys.readouterr()
    assert f"logged to MLflow: comparison.html of run {mine}" in shown.err
    assert "all arms" in shown.out
    client: MlflowClient = stored()
    logged = Path(client.download_artifacts(mine, "comparison.html"))
    assert logged.read_text() == Path("page.html").read_text()
    assert "comparison.html" not in [file.path for file in client.list_artifacts(other)]


def test_a_comparison_without_a_run_is_not_logged(place: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    main.compare(html=Path("page.html"))
    assert "not logged to MLflow: no run holds this comparison.json" in capsys.readouterr().err
    assert Path("page.html").exists()


def test_standard_output_gets_the_page_and_nothing_else(place: Folder) -> None:
    command = [sys.executable, "-c", PROGRAM, "compare", "--html", "-", "--no-texts"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.endswith("</html>\n")
    assert "all arms" in done.stderr
    assert "The texts of the reviews are left out" in done.stdout


def test_a_page_is_written_again_but_no_other_file(place: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        main.compare(html=Path("page.html"))
    Path("mine.html").write_text("<title>mine</title>")
    with pytest.raises(DataError, match=r"mine\.html: already exists and was not written by compare --html"):
        main.compare(html=Path("mine.html"))
    with pytest.raises(DataError, match=r"comparison\.json: already exists"):
        main.compare(html=place.reports / "comparison.json")
    with pytest.raises(DataError, match="--html reports: this is a folder"):
        main.compare(html=Path("reports"))
    assert Path("mine.html").read_text() == "<title>mine</title>"
    main.compare(html=Path("/dev/null"))
    assert not Path("/dev/null").is_file()


def test_other_texts_than_those_compared_are_refused(place: Folder) -> None:
    place.test.write_text(place.test.read_text() + "r-99,another review,late\n")
    with pytest.raises(DataError, match=r"test\.csv: not the test split of this comparison: .* --no-texts"):
        main.compare(html=Path("page.html"))
    place.test.unlink()
    with pytest.raises(DataError, match=r"test\.csv is missing: run `dvc checkout`, .* --no-texts"):
        main.compare(html=Path("page.html"))
    assert not Path("page.html").exists()
    main.compare(html=Path("page.html"), no_texts=True)
    assert Path("page.html").exists()


def test_arms_of_another_evaluation_are_refused(place: Folder) -> None:
    content = (place.reports / "comparison.json").read_text()
    (place.reports / "comparison.json").write_text(content.replace(place.comparison.test_sha256, "0" * 64))
    with pytest.raises(DataError, match=r"arms/majority: not what comparison\.json compares: run `dvc repro compare`"):
        main.compare(html=Path("page.html"))


def test_the_project_may_be_elsewhere(place: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--reports names the folder; the test split is the one next to it."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    main.compare(reports=place.reports, html=Path("page.html"))
    assert "driver" in Path("page.html").read_text()


def test_the_gates_of_the_last_promotion_are_shown_if_they_are_of_this_test_split(place: Folder) -> None:
    gate = Gate(name="accuracy", asked="at most 2 points worse", seen="<b>9</b> points worse", outcome="failed")
    report = GateReport(
        name="reviews",
        candidate=Contender(arm="linear", model="tfidf", run_id=None, version=None, accuracy=0.5),
        opponent=None,
        n=40,
        test_sha256=place.comparison.test_sha256,
        gates=(gate,),
        decision="promoted",
        forced=True,
        reason="a trial",
    )
    write_gates(report, place.root)
    main.compare(html=Path("page.html"))
    page = Path("page.html").read_text()
    assert "&lt;b&gt;9&lt;/b&gt; points worse" in page
    assert "linear (tfidf) was promoted, although gates failed: a trial." in page
    write_gates(report.model_copy(update={"test_sha256": "0" * 64}), place.root)
    main.compare(html=Path("other.html"))
    assert "9&lt;/b&gt; points worse" not in Path("other.html").read_text()
