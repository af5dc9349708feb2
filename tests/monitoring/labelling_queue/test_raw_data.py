"""Rows are appended to a CSV as people have them, and what is there stays as it is, byte for byte."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.data.tables import read_table
from reviewtune.errors import DataError
from reviewtune.monitoring.labelling_queue.raw_data import append, read_raw, refuse_unwritable, unused_id

CELLS = st.text(st.sampled_from("ab ,;\"'\n\té한😀=|"), max_size=12).map(lambda cell: f"x{cell}x")
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6)


@settings(max_examples=150)
@given(
    before=ROWS,
    after=ROWS,
    separator=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    closed=st.booleans(),
    declared=st.booleans(),
    added=st.booleans(),
)
def test_all_rows_are_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    config: Config,
    before: list[tuple[str, str]],
    after: list[tuple[str, str]],
    separator: str,
    end: str,
    encoding: str,
    closed: bool,
    declared: bool,
    added: bool,
) -> None:
    target = io.StringIO()
    csv.writer(target, delimiter=separator, lineterminator=end).writerows([("text", "label"), *before])
    text = (f"sep={separator}{end}" if declared else "") + target.getvalue()
    path = tmp_path_factory.mktemp("raw") / "raw.csv"
    path.write_bytes((text if closed else text.removesuffix(end)).encode(encoding))
    content, raw = path.read_bytes(), read_raw(_of(config, path), path.parent)
    new = [{"text": one, "label": two, "labelled_on": "2026-11-29", "nobody": "?"} for one, two in after]
    append(raw, new, new_columns=["labelled_on"] if added else [])
    rows = [row.cells for row in read_table(path).rows]
    date = {"labelled_on": ""} if added else {}
    assert rows[: len(before)] == [{"text": one, "label": two, **date} for one, two in before]
    assert [(row["text"], row["label"]) for row in rows[len(before) :]] == after
    assert added or path.read_bytes().startswith(content)
    if added:
        assert {row["labelled_on"] for row in rows[len(before) :]} == {"2026-11-29"}


def test_a_review_with_a_carriage_return_alone_is_appended(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("text,label\nlate,a\n")
    append(read_raw(_of(config, path), tmp_path), [{"text": "wet\rand torn", "label": "b"}])
    assert [row.cells["text"] for row in read_table(path).rows] == ["late", "wet\rand torn"]


def _of(config: Config, path: Path) -> Config:
    columns = config.data.columns.model_copy(update={"id": None, "second_label": None})
    data = config.data.model_copy(update={"path": Path(path.name), "columns": columns, "slices": ()})
    return config.model_copy(update={"data": data})


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("text,label\nlate,a\n")
    raw = read_raw(_of(config, path), tmp_path)
    path.write_text("text,label\nlate,a\nof somebody else,b\n")
    with pytest.raises(DataError, match="it changed meanwhile; run the same command again"):
        append(raw, [{"text": "new", "label": "a"}])
    assert "somebody else" in path.read_text()


def test_a_link_into_the_cache_is_refused(tmp_path: Path, config: Config) -> None:
    stored = tmp_path / ".dvc" / "cache" / "ab"
    stored.parent.mkdir(parents=True)
    stored.write_text("text,label\nlate,a\n")
    (tmp_path / "raw.csv").symlink_to(stored)
    with pytest.raises(DataError, match="dvc unprotect"):
        refuse_unwritable(read_raw(_of(config, tmp_path / "raw.csv"), tmp_path))


def test_ids_stay_unique() -> None:
    key = "0123456789abcdef" * 4
    assert unused_id("n1", key, set()) == "n1"
    assert unused_id("n1", key, {"n1"}) == "q-0123456789"
    assert unused_id(None, key, {"q-0123456789"}) == "q-0123456789a"
