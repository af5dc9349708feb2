"""A user's CSV: a valid file becomes one normalised table, an invalid one an error with file and line."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.config.data import DataConfig
from reviewtune.data.reviews import Prepared, mask_and_merge, prepare
from reviewtune.data.sides.side_names import GIVEN
from reviewtune.data.summary import Agreement, describe
from reviewtune.data.tables import read_rows
from reviewtune.errors import DataError

LABELS = ("late", "broken")


def settings(config: Config, **changes: object) -> DataConfig:
    base = {
        "name": "own",
        "path": "own.csv",
        "language": "en",
        "columns": {"text": "Comment", "label": "Topic", "id": None, "second_label": None},
        "slices": [],
        "conflicts": "refuse",
        "max_characters": 8000,
        "mask_personal": False,
        "train_size": "all",
        "labels": {"late": "came late", "broken": "came broken"},
    }
    return DataConfig.model_validate({**base, **changes}, strict=False)


def write(path: Path, rows: list[tuple[str, str]], header: str = "Comment,Topic") -> Path:
    path.write_text("\n".join([header, *(f'"{text}",{label}' for text, label in rows)]) + "\n", encoding="utf-8")
    return path


def good_rows(n: int = 5) -> list[tuple[str, str]]:
    return [(f"{label} parcel number {i}", label) for label in LABELS for i in range(n)]


def prepared(tmp_path: Path, config: Config, rows: list[tuple[str, str]], **changes: object) -> Prepared:
    return prepare(write(tmp_path / "own.csv", rows), settings(config, **changes))


def refused(tmp_path: Path, config: Config, rows: list[tuple[str, str]], **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, config, rows, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert "own.csv" in message
    return message


def test_a_csv_with_other_column_names(tmp_path: Path, config: Config) -> None:
    reviews = prepared(tmp_path, config, good_rows()).reviews
    assert len(reviews) == 10
    assert reviews["review_id"].is_unique
    assert set(reviews["label"]) == set(LABELS)


def test_our_own_data_has_the_numbers_of_its_card(project: Path, config: Config) -> None:
    result = prepare(project / config.data.path, config.data)
    summary = describe(result, config.data, similarity=config.split.similarity)
    assert summary.reviews == 770
    assert set(summary.labels.values()) == {70}
    assert summary.agreement == Agreement(n=770, share=1.0, kappa=1.0)
    assert summary.slices["hard"] == {"0": 538, "1": 232}


def test_commas_quotes_line_breaks_and_a_byte_order_mark(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.csv"
    rows = "".join(f'"a, ""b"" {i}\nc","late"\n"x {i}",broken\n' for i in range(5))
    path.write_text("\ufeffComment,Topic\n" + rows, encoding="utf-8")
    assert prepare(path, settings(config)).reviews["text"].iloc[0] == 'a, "b" 0 c'


def test_empty_file(tmp_path: Path, config: Config) -> None:
    (tmp_path / "own.csv").write_text("")
    with pytest.raises(DataError, match=r"own.csv: no column 'Comment': it is empty"):
        prepare(tmp_path / "own.csv", settings(config))


def test_header_only(tmp_path: Path, config: Config) -> None:
    assert "no reviews" in refused(tmp_path, config, [])


def test_missing_file(tmp_path: Path, config: Config) -> None:
    with pytest.raises(DataError, match=r"own.csv: no such file"):
        prepare(tmp_path / "own.csv", settings(config))


def test_a_missing_column_is_reported_with_the_existing_ones(tmp_path: Path, config: Config) -> None:
    path = write(tmp_path / "own.csv", good_rows(), header="Comment,Subject")
    with pytest.raises(DataError, match=r"no column 'Topic': it has Comment, Subject"):
        prepare(path, settings(config))


def test_an_unknown_label_is_reported_with_its_line_and_the_nearest_label(tmp_path: Path, config: Config) -> None:
    message = refused(tmp_path, config, [*good_rows(), ("x", "lat"), ("y", "brokn")])
    assert "line 12: label 'lat' is not one of 2 labels; did you mean 'late'?" in message
    assert "1 more such row: line 13" in message


def test_label_with_one_row(tmp_path: Path, config: Config) -> None:
    message = refused(tmp_path, config, [*[r for r in good_rows() if r[1] == "late"], ("only one", "broken")])
    assert "label 'broken' has 1 review, " in message


def test_only_one_class(tmp_path: Path, config: Config) -> None:
    message = refused(tmp_path, config, [row for row in good_rows() if row[1] == "late"])
    assert "all reviews have the label 'late'" in message


def test_not_utf8_names_line_and_byte(tmp_path: Path, config: Config) -> None:
    path = write(tmp_path / "own.csv", good_rows())
    path.write_bytes(path.read_bytes() + "caf\xe9,late\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"own.csv line 12: byte 0xe9 is not UTF-8"):
        prepare(path, settings(config))


def test_hundred_kilobyte_review(tmp_path: Path, config: Config) -> None:
    message = refused(tmp_path, config, [*good_rows(), ("x" * 102_400, "late")])
    assert "line 12: a review of 102400 characters, at most 8000" in message


def test_empty_review(tmp_path: Path, config: Config) -> None:
    assert "line 12: the review is empty" in refused(tmp_path, config, [*good_rows(), ("  ", "late")])


def test_row_with_too_many_cells_and_an_open_quote(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("a,b\n1,2,3\n")
    with pytest.raises(DataError, match=r"line 2: 3 cells, the header has 2"):
        read_rows(path, ["a"])
    path.write_text('a,b\n"1,2\n')
    with pytest.raises(DataError, match=r"line 2: .*quote"):
        read_rows(path, ["a"])


def test_exact_duplicates_are_merged_regardless_of_case_and_spaces(tmp_path: Path, config: Config) -> None:
    result = prepared(tmp_path, config, [*good_rows(), ("LATE  parcel number 0 ", "late")])
    assert (len(result.reviews), result.merged) == (10, 1)


CONFLICT = [*good_rows(), ("late parcel number 0", "broken")]


def test_conflicting_labels_are_refused_with_the_rows_named(tmp_path: Path, config: Config) -> None:
    message = refused(tmp_path, config, CONFLICT)
    assert "line-2=late, line-12=broken" in message


def test_conflicts_can_be_dropped_or_resolved_by_majority(tmp_path: Path, config: Config) -> None:
    assert len(prepared(tmp_path, config, CONFLICT, conflicts="drop").reviews) == 9
    voted = [*CONFLICT, ("late parcel number 0", "late")]
    kept = prepared(tmp_path, config, voted, conflicts="majority").reviews
    assert kept.loc[kept["text"] == "late parcel number 0", "label"].tolist() == ["late"]
    assert len(prepared(tmp_path, config, CONFLICT, conflicts="majority").reviews) == 9  # a tie has no majority


def test_repeated_ids(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.csv"
    path.write_text("id,Comment,Topic\n" + "".join(f"7,{text},{label}\n" for text, label in good_rows()))
    columns = {"text": "Comment", "label": "Topic", "id": "id", "second_label": None}
    with pytest.raises(DataError, match="several rows have the review id '7'"):
        prepare(path, settings(config, columns=columns))


def test_labels_headers_and_texts_are_compared_in_one_form(tmp_path: Path, config: Config) -> None:
    """As macOS writes Hangul, with the invisible characters that web pages leave."""
    path = tmp_path / "own.csv"
    rows = "".join(f'"\u1112\u1161\u11ab {i}\u200b",\u1112\u1161\u11ab\u00a0x \nsame {i},b\u200b\n' for i in range(5))
    path.write_text("\ufeffComment\u200b,\u1112\u1161\u11ab\n" + rows, encoding="utf-8")
    columns = {"text": "Comment", "label": "\u1112\u1161\u11ab", "id": None, "second_label": None}
    named = settings(config, columns=columns, labels={"\u1112\u1161\u11ab x": "one", "b": "two"})
    reviews = prepare(path, named).reviews
    assert set(reviews["label"]) == {"\ud55c x", "b"}
    assert reviews["text"].iloc[0] == "\ud55c 0"


@pytest.mark.parametrize("between", [", ", ";", " / ", "|", " and ", "\n", " & "])
def test_a_cell_with_several_labels_is_recognised(tmp_path: Path, config: Config, between: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f'Comment,Topic\nx,late\ny,"late{between}broken"\nz,"late{between}brokn"\n')
    with pytest.raises(DataError) as caught:
        prepare(path, settings(config))
    assert "is several labels of one review ('late' and 'broken'), which can have one only; keep the main one" in str(
        caught.value
    )
    assert "('late' and 'brokn')" in caught.value.details


def test_a_label_may_hold_the_signs_that_separate_labels(tmp_path: Path, config: Config) -> None:
    labels = {"late, broken": "both", "late": "one", "size and fit": "other", "broken / late": "again"}
    rows = [(f"{label} {i}", f'"{label}"') for label in labels for i in range(5)]
    assert len(prepare(write(tmp_path / "own.csv", rows), settings(config, labels=labels)).reviews) == 20


def test_the_first_ten_faulty_rows_are_a_table(tmp_path: Path, config: Config) -> None:
    rows = [*good_rows(), *[("x", f"lat{i}") for i in range(11)], ("", "late")]
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, config, rows)
    lines = caught.value.details.splitlines()
    assert lines[0].split() == ["line", "value", "what", "is", "wrong"]
    assert lines[1].split()[:2] == ["12", "lat0"]
    assert len(lines) == 12
    assert lines[-1] == "... and 2 more"


def test_empty_rows_are_counted_and_do_not_move_line_numbers(tmp_path: Path, config: Config) -> None:
    rows = "".join(f"{text},{label}\n,\n" for text, label in good_rows())
    path = tmp_path / "own.csv"
    path.write_text(f"Comment,Topic\n{rows}")
    result = prepare(path, settings(config))
    assert result.empty_rows == 10
    assert result.reviews["review_id"].tolist()[:3] == ["line-2", "line-4", "line-6"]


def test_each_of_thousands_of_conflicts_is_decided_for_itself(tmp_path: Path, config: Config) -> None:
    texts = [f"parcel number {n}" for n in range(20_000)]
    columns = {"review_id": texts, "text": texts, "label": "late", GIVEN: "train"}
    again = pd.DataFrame(columns).head(4_000).assign(label="broken", **{GIVEN: "test"})
    table = pd.concat([pd.DataFrame(columns), again, again.head(2_000)], ignore_index=True)
    kept, conflicts = mask_and_merge(tmp_path, table, settings(config, conflicts="majority"))
    assert (len(conflicts), len(kept), Counter(kept["label"])["broken"]) == (4_000, 18_000, 2_000)
    assert Counter(kept[GIVEN]) == {"train": 16_000, "test": 2_000}


@pytest.mark.parametrize("language", ["de+en", "EN", "en-GB"])
def test_reviews_in_a_declared_language_are_no_warning(tmp_path: Path, config: Config, language: str) -> None:
    path = tmp_path / "own.csv"
    text = "The parcel came late, and the box was crushed; week {n} now."
    write(path, [(text.format(n=n), label) for n, (_, label) in enumerate(good_rows())])
    for declared, warned in ((language, False), ("ko", True)):
        data = settings(config, language=declared)
        warnings = describe(prepare(path, data), data, similarity=0.9).warnings
        assert any("other languages" in warning for warning in warnings) == warned


def test_a_slice_may_be_called_language(tmp_path: Path, config: Config) -> None:
    """Its values replace the data set's one language, and the other columns stay apart."""
    path = tmp_path / "own.csv"
    rows = [f"{text},{label},{'en' if i % 2 else 'de'}" for i, (text, label) in enumerate(good_rows())]
    path.write_text("\n".join(["Comment,Topic,language", *rows]) + "\n")
    data = settings(config, slices=["language"])
    result = prepare(path, data)
    assert list(result.reviews.columns) == ["review_id", "text", "label", "label_second", "language"]
    summary = describe(result, data, similarity=0.9)
    assert summary.slices == {"language": {"de": 5, "en": 5}}
    assert summary.empty_rows_skipped == 0
