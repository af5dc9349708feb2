"""Three data sets as teams bring them, from `check-data` to `classify`, in a clone with a tiny model.

Unbalanced hotel feedback from a German Excel, Korean app reviews with decomposed Hangul, and support tickets with 25
labels, two in some cells.
"""

import csv
import io
from collections.abc import Callable, Iterator

import pytest

from tests.support.clones import Clone, FirstPass, stages_run
from tests.support.strange_data import StrangeData, app_reviews, hotel_feedback, support_tickets

pytestmark = pytest.mark.pipeline


@pytest.fixture(
    params=[hotel_feedback, app_reviews, support_tickets], ids=["hotel", "app_ko", "tickets"], scope="module"
)
def data(request: pytest.FixtureRequest) -> StrangeData:
    make: Callable[[], StrangeData] = request.param
    return make()


@pytest.fixture(scope="module")
def own(data: StrangeData, first_pass: FirstPass, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone with the data set in it."""
    clone = first_pass.first.copy(tmp_path_factory.mktemp("stranger") / "clone")
    for was, now in (("train_size: 66", "train_size: all"), ("test: 0.06", "test: 0.2"), ("tion: 0.08", "tion: 0.2")):
        clone.edit("conf/config.yaml", was, now)
    clone.set_epochs(1)
    clone.write_params()
    data.write(clone.folder)
    yield clone
    clone.end_server()


def test_two_labels_in_a_cell_are_shown_before_anything_runs(own: Clone, data: StrangeData) -> None:
    if data.name != "tickets":
        pytest.skip("this data set has one label per cell")
    shown = own.run("reviewtune", "check-data", f"data/raw/{data.file}", "--data", data.name, ok=False)
    assert "several labels" in shown
    assert "Traceback" not in shown
    refused = own.run("dvc", "exp", "run", "-S", f"data={data.name}", ok=False)
    assert "several labels" in refused
    assert "Running stage 'split'" not in refused
    support_tickets(two_labels=False).write(own.folder)


def test_check_data_counts_what_is_in_the_file(own: Clone, data: StrangeData) -> None:
    file = f"data/raw/{support_tickets(two_labels=False).file if data.name == 'tickets' else data.file}"
    shown = own.run("reviewtune", "check-data", file)
    assert f"{len(data.reviews)} rows, all usable" in shown
    assert "Traceback" not in shown


def test_the_pipeline_runs_to_its_comparison(own: Clone, data: StrangeData) -> None:
    shown = own.run("dvc", "exp", "run", "-S", f"data={data.name}")
    assert "compare" in stages_run(shown)
    assert "Warning" not in shown
    report = own.json("reports/comparison.json")
    assert {arm["invalid"] for arm in report["arms"]} == {0}
    assert set(column(own, "reports/arms/finetuned/predictions.csv", "predicted")) <= set(data.labels)


def test_new_reviews_are_classified(own: Clone, data: StrangeData) -> None:
    own.run("reviewtune", "classify", data.new_file, "--out", "sorted.csv")
    issues = column(own, "sorted.csv", "issue")
    assert issues
    assert set(issues) <= set(data.labels)


def column(clone: Clone, file: str, name: str) -> list[str]:
    """The cells of a column of a CSV that the project wrote."""
    return [row[name] for row in csv.DictReader(io.StringIO((clone.folder / file).read_text("utf-8")))]
