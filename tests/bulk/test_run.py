"""Files of any size are classified in parts: nothing is lost, asked twice or mixed, whatever interrupts the work."""

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from reviewtune.analyzer.classifier import Classifier, Identity, Outcome
from reviewtune.analyzer.open_classifier import open_arm
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.bulk.blocks import START, Block
from reviewtune.bulk.manifest import read_manifest
from reviewtune.bulk.part_maker import Made, PartMaker, Place, make_here
from reviewtune.bulk.run import Work, run
from reviewtune.bulk.sources import Source, find_sources
from reviewtune.core.config.config import Config
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.errors import DataError, ProviderError
from tests.bulk.conftest import TRAINING, rows_in, write_csv, write_parquet


class Watched:
    """A classifier that notes what it is asked, and fails at one text."""

    def __init__(self, inner: Classifier, fails_at: str | None = None, version: str | None = "1") -> None:
        self._inner, self._fails_at, self._version = inner, fails_at, version
        self.asked = list[str]()

    @property
    def identity(self) -> Identity:
        return self._inner.identity._replace(version=self._version)

    def classify(self, texts: Sequence[str], *, cache: bool = False, progress: Progress = SILENT) -> list[Outcome]:
        if self._fails_at in texts:
            raise ProviderError("the provider does not answer")
        self.asked += texts
        return self._inner.classify(texts, cache=cache, progress=progress)


def sources_in(place: Path, config: Config, *keep: str) -> list[Source]:
    return find_sources(place, config.data.columns, text_column=None, keep=keep)[0]


@pytest.fixture
def work(folder: Path, config: Config, classifier: Classifier, tmp_path: Path) -> Work:
    """Ten rows a part, so the parts end inside both files."""
    sources = sources_in(folder, config, "id")
    return Work(sources=sources, classifier=classifier, folder=tmp_path / "out", keep=("id",), part_rows=10)


def test_every_row_gets_the_label_that_the_model_gives_it_alone(
    work: Work, texts: list[str], classifier: Classifier
) -> None:
    manifest = run(work)
    rows = rows_in(work.folder)
    alone = classifier.classify(texts)
    assert [row["label"] for row in rows] == [getattr(one, "label", None) for one in alone]
    assert [(row["file"], row["line"], row["id"]) for row in (rows[0], rows[19], rows[20], rows[44])] == [
        ("a.csv", 2, "c0"),
        ("a.csv", 21, "c19"),
        ("b.parquet", 1, "0"),
        ("b.parquet", 25, "24"),
    ]
    assert {row["model"] for row in rows} == {"linear"}
    assert all(0 < row["confidence"] < 1 and isinstance(row["sure"], bool) for row in rows)
    assert (manifest.rows, manifest.failed, manifest.complete) == (45, 0, True)
    assert [part.rows for part in manifest.parts] == [10, 10, 10, 10, 5]
    assert sum(manifest.labels.values()) == 45


def test_the_same_command_continues_after_a_fault_and_asks_only_the_rest(work: Work, texts: list[str]) -> None:
    failing, healed = Watched(work.classifier, fails_at=texts[33]), Watched(work.classifier)
    with pytest.raises(ProviderError):
        run(replace(work, classifier=failing))  # type: ignore[arg-type]
    assert len(rows_in(work.folder)) == 30
    run(replace(work, classifier=healed))  # type: ignore[arg-type]
    assert failing.asked + healed.asked == texts
    assert len(rows_in(work.folder)) == 45
    again = Watched(work.classifier)
    assert run(replace(work, classifier=again)).complete  # type: ignore[arg-type]
    assert again.asked == []


def test_a_killed_command_loses_nothing_and_repeats_nothing(
    served: Path, reviews: list[dict[str, str]], tmp_path: Path, config: Config, classifier: Classifier
) -> None:
    """Killed at any moment: what the continued parts hold is what an undisturbed command writes, byte by byte."""
    many = [{"text": row["text"]} for row in reviews]
    new, out = write_csv(tmp_path / "new.csv", many), tmp_path / "out"
    command = [sys.executable, "-m", "reviewtune", "classify", str(new), "--served-model", str(served)]
    process = subprocess.Popen([*command, "--out", str(out), "--part-rows", "5"], cwd=tmp_path)
    deadline = time.monotonic() + 300
    while not (out / "part-00002.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.005)  # the pauses of `wait_for` grow, and the command would have ended
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = json.loads((out / "manifest.json").read_text())
    done = {part["name"]: (out / part["name"]).stat().st_mtime_ns for part in finished["parts"]}
    assert 2 <= len(done) < len(many) // 5
    watched = Watched(classifier, version=classifier.version)
    work = Work(sources=sources_in(new, config), classifier=watched, folder=out, part_rows=5)  # type: ignore[arg-type]
    manifest = run(work)
    assert len(watched.asked) == len(many) - finished["rows"]
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    run(replace(work, folder=tmp_path / "undisturbed"))
    assert [row["line"] for row in rows_in(out)] == list(range(2, len(many) + 2))
    for part in manifest.parts:
        assert (out / part.name).read_bytes() == (tmp_path / "undisturbed" / part.name).read_bytes()
    assert {path.name for path in out.iterdir()} == {"manifest.json", *(part.name for part in manifest.parts)}


def test_parts_may_be_finished_in_any_order(work: Work, folder: Path, texts: list[str]) -> None:
    """As on a cluster. An interruption then leaves a gap, which the same command fills, also without the cluster."""
    with (folder / "a.csv").open("a", encoding="utf-8") as file:
        file.write("a row of one cell\n")  # gets no label
    sources = [*work.sources]
    watched = Watched(work.classifier)

    def last_first(maker: PartMaker, named: Iterator[tuple[str, Block]], *_: object) -> Iterator[Made]:
        first, second, *others = named
        for name, block in [*reversed(others), second, first]:
            if name == "part-00000.parquet" and len(watched.asked) < 45:
                raise ProviderError("the provider does not answer")
            yield Place.of(name, block), maker.part(block, maker.outcomes(block, SILENT))

    mixed = replace(work, sources=sources, classifier=watched, make=last_first)  # type: ignore[arg-type]
    with pytest.raises(ProviderError):
        run(mixed)
    before = read_manifest(work.folder)
    assert [part.name[5:10] for part in before.parts] == ["00001", "00002", "00003", "00004"]
    assert (before.unbroken, before.end, before.rows, before.failed) == (0, START, 36, 1)
    assert run(replace(mixed, make=make_here)).complete
    assert sorted(watched.asked) == sorted(texts)
    run(replace(mixed, make=make_here, folder=work.folder.with_name("in order")))
    for path in work.folder.iterdir():
        assert path.read_bytes() == (work.folder.with_name("in order") / path.name).read_bytes()


def test_rows_that_cannot_be_read_or_are_empty_get_a_reason_and_stop_nothing(
    tmp_path: Path, config: Config, classifier: Classifier
) -> None:
    (tmp_path / "new.csv").write_text("n,text\n1,The parcel is late\n2\n3,\u200b\n4,It broke\n", encoding="utf-8")
    write_parquet(tmp_path / "new.parquet", {"text": ["It broke", None]})
    sources = [*sources_in(tmp_path / "new.csv", config), *sources_in(tmp_path / "new.parquet", config)]
    manifest = run(Work(sources=sources, classifier=classifier, folder=tmp_path / "out"))
    rows = rows_in(tmp_path / "out")
    assert [bool(row["label"]) for row in rows] == [True, False, False, True, True, False]
    assert [row["line"] for row in rows] == [2, 3, 4, 5, 1, 2]
    assert rows[1]["error"].startswith("1 cell, the header has 2")
    assert rows[2]["error"] == "the review is empty"
    assert manifest.failed == 3
    assert [(row.file, row.line) for row in manifest.failed_rows] == [
        ("new.csv", 3),
        ("new.csv", 4),
        ("new.parquet", 2),
    ]


def test_parts_may_be_csv(work: Work) -> None:
    run(replace(work, kind="csv"))
    with (work.folder / "part-00000.csv").open(encoding="utf-8", newline="") as file:
        row, *_ = csv.DictReader(file)
    assert list(row) == ["file", "line", "id", "label", "confidence", "sure", "model", "version", "error"]
    assert (row["file"], row["id"], row["sure"] in ("true", "false"), row["error"]) == ("a.csv", "c0", True, "")


def test_other_models_options_or_files_are_not_mixed_into_the_parts(work: Work, folder: Path, config: Config) -> None:
    run(work)

    def refused(**changes: Any) -> str:
        with pytest.raises(DataError) as error:
            run(replace(work, **changes))
        assert f"start anew: delete {work.folder}, or name another folder with --out" in str(error.value)
        return str(error.value)

    assert "begun with version " in refused(classifier=Watched(work.classifier, version="99"))
    assert "begun with --part-rows 10, now it is 7" in refused(part_rows=7)
    assert "begun with --format parquet, now it is csv" in refused(kind="csv")
    assert "begun with --keep id, now it is (none)" in refused(keep=())
    write_csv(folder / "c.csv", [{"id": "1", "text": "late"}])
    assert "begun without the file c.csv" in refused(sources=sources_in(folder, config, "id"))
    (folder / "c.csv").unlink()
    os.utime(folder / "a.csv")  # only copied: the content is the same
    assert run(work).complete
    write_csv(folder / "a.csv", [{"id": "1", "text": "late"}])
    assert "the file a.csv was changed since the parts were begun" in refused()
    (folder / "a.csv").unlink()
    assert "begun with the file a.csv, which is not there now" in refused(sources=sources_in(folder, config, "id"))


def test_a_part_that_was_lost_is_noticed(work: Work) -> None:
    run(work)
    (work.folder / "part-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"part-00001.parquet is missing: put it back, or start anew"):
        run(work)


def test_a_file_that_changes_meanwhile_stops_the_work(work: Work, folder: Path, texts: list[str]) -> None:
    class Meanwhile(Watched):
        def classify(self, texts: Sequence[str], **options: Any) -> list[Outcome]:
            if self.asked:
                write_csv(folder / "a.csv", [{"id": "1", "text": "something else"}])
            return super().classify(texts, **options)

    with pytest.raises(DataError, match=r"a.csv: the file was changed while it was read; .* start anew"):
        run(replace(work, classifier=Meanwhile(work.classifier)))  # type: ignore[arg-type]
    assert len(rows_in(work.folder)) <= 10


def test_a_folder_with_other_files_is_left_alone(work: Work, tmp_path: Path) -> None:
    work.folder.mkdir()
    (work.folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"this is a folder with other files \(notes.txt\); name a new or empty folder"):
        run(work)
    (work.folder / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"manifest.json: damaged .* name another folder with --out"):
        run(work)
    assert (work.folder / "notes.txt").read_text() == "mine"
    with pytest.raises(DataError, match=r"notes.txt is not a folder"):
        run(replace(work, folder=work.folder / "notes.txt"))


def test_two_commands_do_not_write_into_one_folder(work: Work) -> None:
    work.folder.mkdir()
    with (
        FileLock(work.folder / ".lock"),
        pytest.raises(DataError, match="another command is writing parts there; wait until it ends"),
    ):
        run(work)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_one_line_and_the_finished_parts_stay(work: Work, texts: list[str]) -> None:
    failing = Watched(work.classifier, fails_at=texts[15], version=work.classifier.identity.version)
    with pytest.raises(ProviderError):
        run(replace(work, classifier=failing))  # type: ignore[arg-type]
    (work.folder / "part-00001.parquet").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"part-00001.parquet cannot be written \(No space left on device\): free some"):
        run(work)
    (work.folder / "part-00001.parquet").unlink()
    assert run(work).rows == 45


def test_files_that_cannot_be_read_are_refused_before_anything_is_asked(tmp_path: Path, config: Config) -> None:
    def refused(name: str, content: bytes, *keep: str) -> str:
        place = tmp_path / name
        place.mkdir()
        (place / "new.csv").write_bytes(content)
        with pytest.raises(DataError) as error:
            sources_in(place, config, *keep)
        return str(error.value)

    assert "no column 'text': it has a, b; name the column with" in refused("column", b"a,b\n1,2\n")
    assert "no column 'id': it has text; choose others with --keep" in refused("keep", b"text\nlate\n", "id")
    assert "an .xlsx is not read in parts" in refused("xlsx", b"PK\x03\x04" + bytes(40))
    assert "this Parquet file is damaged" in refused("damaged", b"PAR1" + bytes(40))
    (tmp_path / "pointer.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n")
    with pytest.raises(DataError, match=r"pointer.parquet: this Parquet file is damaged .*; write it again"):
        sources_in(tmp_path / "pointer.parquet", config)
    write_parquet(tmp_path / "lists.parquet", {"text": [["late"]]})
    with pytest.raises(DataError, match=r"column 'text' is list<.*; only a column of single values"):
        sources_in(tmp_path / "lists.parquet", config)
    twice = pa.Table.from_arrays([pa.array(["late"]), pa.array(["lost"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"twice.parquet: 2 columns are called 'text'; rename all but one"):
        sources_in(tmp_path / "twice.parquet", config)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no file in it ends with .csv, .tsv, .parquet"):
        sources_in(tmp_path / "empty", config)
    with pytest.raises(DataError, match="no such file or folder"):
        sources_in(tmp_path / "nowhere", config)


def test_a_text_that_is_not_utf_8_stops_the_work_in_one_line(work: Work, folder: Path, config: Config) -> None:
    raw = pa.array([b"late", b"caf\xe9"], pa.binary())
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers())}), folder / "b.parquet")
    latin = replace(work, sources=sources_in(folder / "b.parquet", config), keep=())
    with pytest.raises(DataError, match=r"b.parquet: a text in it is not UTF-8 .*; write it again"):
        run(latin)


def test_the_model_stays_the_same_while_the_champion_changes(served: Path) -> None:
    """Else one file would hold the answers of two models."""
    analyzer = ReviewAnalyzer(served_model=served, cache=True, refresh=0)
    assert analyzer.pinned().identity == ReviewAnalyzer(served_model=served).pinned().identity
    assert analyzer.pinned().identity.prompt is None


def test_a_classifier_can_be_sent_to_another_process(
    config: Config, classifier: Classifier, reviews: list[dict[str, str]], texts: list[str]
) -> None:
    """With what it was fitted on, and with what its prompt needs."""
    sent = pickle.loads(pickle.dumps(classifier))
    assert sent.identity == classifier.identity
    assert sent.classify(texts) == classifier.classify(texts)
    table = pd.DataFrame(reviews[:TRAINING])
    arm = config.arms["few_shot"]
    for examples in ("balanced", "nearest"):
        chosen = config.model_copy(update={"arms": {"few_shot": arm.model_copy(update={"examples": examples})}})
        prompted = open_arm("few_shot", chosen, lambda: table)
        assert pickle.loads(pickle.dumps(prompted)).identity == prompted.identity
        assert pickle.loads(pickle.dumps(prompted.shared_by(2))).identity == prompted.identity
