"""The data of a run are found by their hash, wherever they are: run first, commit afterwards, edit later."""

import subprocess
from pathlib import Path

import pytest

from reviewtune.commands.run_data import place_data
from reviewtune.core.config.config import Config, TrackingConfig
from reviewtune.core.project import ProjectPaths
from reviewtune.data.preparation import write_labeled
from reviewtune.data.reviews import sha256
from reviewtune.errors import DataError
from reviewtune.tracking import provenance, queries
from reviewtune.tracking import runs as tracking_runs
from reviewtune.tracking.runs import RunRecord

TRACKING = TrackingConfig(experiment="reviews", uri=None)
PATH = Path("data/raw/mine.csv")


def rows(word: str) -> str:
    reviews = [
        f"my {word} number {n} came {n} days too late,late\n{word} {n} arrived in {n} pieces,broken" for n in range(9)
    ]
    return "\n".join(["Comment,Topic", *reviews, ""])


@pytest.fixture
def mine(config: Config) -> Config:
    columns = config.data.columns.model_copy(
        update={"text": "Comment", "label": "Topic", "id": None, "second_label": None}
    )
    labels = {"late": "arrived late", "broken": "arrived broken"}
    new = {"name": "mine", "path": PATH, "columns": columns, "labels": labels, "slices": ()}
    return config.model_copy(update={"data": config.data.model_copy(update=new)})


@pytest.fixture
def run(tmp_path: Path, mine: Config, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    """A run on data that are in the workspace and nowhere else; a later version is committed."""
    stages = ", ".join(f"{stage}: {{deps: []}}" for stage in provenance.STAGES)
    (tmp_path / "dvc.yaml").write_text(f"stages: {{{stages}}}")
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    write(rows("parcel"))
    write_labeled(mine, PATH, ProjectPaths().labeled)
    tags = {
        "data_sha256": sha256(ProjectPaths().labeled),
        "code_sha256": provenance.circumstances(tmp_path)["code_sha256"],
    }
    with tracking_runs.open_run(TRACKING, name="majority", kind="evaluation", tags=tags) as open_run:
        pass
    return queries.find_run(TRACKING, open_run.id)


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)


def write(text: str, path: Path = PATH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def commit(text: str) -> None:
    write(text)
    git("add", "-f", str(PATH))
    git("commit", "-qm", "x")


def placed(run: RunRecord, mine: Config, tmp_path: Path, *, at_revision: str | None = None) -> tuple[str, str]:
    """Where the data were, and what was placed; the revision of the run may hold an older file."""
    target = tmp_path / "tree" / PATH
    if at_revision is not None:
        write(at_revision, target)
    where = place_data(run, mine, TRACKING, target, cache=tmp_path / ".dvc" / "cache")
    return where, target.read_text()


def test_data_that_were_never_committed(run: RunRecord, mine: Config, tmp_path: Path) -> None:
    assert placed(run, mine, tmp_path) == ("the workspace", rows("parcel"))


def test_data_that_were_committed_after_the_run_and_changed_since(run: RunRecord, mine: Config, tmp_path: Path) -> None:
    commit(rows("parcel"))
    commit(rows("box"))
    write(rows("letter"))
    where, text = placed(run, mine, tmp_path, at_revision=rows("older"))
    assert where.startswith("a commit")
    assert text == rows("parcel")


@pytest.mark.parametrize("name", ["raw", "prepared"])
def test_data_that_only_the_cache_of_dvc_has(name: str, run: RunRecord, mine: Config, tmp_path: Path) -> None:
    content = rows("parcel") if name == "raw" else ProjectPaths().labeled.read_text()
    write(content, tmp_path / ".dvc" / "cache" / "files" / "md5" / "ab" / "cdef")
    write(rows("letter"))
    git("commit", "-qm", "x", "--allow-empty")
    where, _ = placed(run, mine, tmp_path)
    assert where.startswith("DVC's cache")
    write_labeled(mine, tmp_path / "tree" / PATH, tmp_path / "again.csv")
    assert sha256(tmp_path / "again.csv") == run.tags["data_sha256"]


def test_data_that_are_an_artifact_of_the_run(run: RunRecord, mine: Config, tmp_path: Path) -> None:
    queries.stored_run(TRACKING, run.id).artifact(PATH)
    PATH.unlink()
    assert placed(run, mine, tmp_path) == ("the run's artifacts", rows("parcel"))


def test_other_data_are_refused_instead_of_taken(run: RunRecord, mine: Config, tmp_path: Path) -> None:
    commit(rows("box"))
    with pytest.raises(DataError, match=r"mine\.csv: 2 other versions, but not the run's data .*; copy the file that"):
        placed(run, mine, tmp_path, at_revision=rows("older"))
    PATH.unlink()
    git("update-ref", "-d", "HEAD")
    (tmp_path / "tree" / PATH).unlink()
    with pytest.raises(DataError, match=r"mine\.csv: no copy of the run's data"):
        placed(run, mine, tmp_path)
