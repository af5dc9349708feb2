"""Reading the new reviews: a file that is read row by row gives what it gives when it is read whole."""

import time
import tracemalloc
from pathlib import Path

import pytest

from reviewtune.analyzer.open_classifier import open_classifier
from reviewtune.core.config.config import Config
from reviewtune.deployment.reference import StoredReference, make_reference
from reviewtune.deployment.text_features import text_features
from reviewtune.errors import DataError
from reviewtune.monitoring import new_reviews
from reviewtune.monitoring.monitor import Watched, monitor
from reviewtune.monitoring.new_reviews import NewReviews, ReadOptions, read_new_reviews
from tests.support.odd_server import CHAT, Asked, odd_server
from tests.support.served import provided_by, scored_completion, served_folder
from tests.support.strange_data import app_reviews, hotel_feedback

FILES = {"hotel": (hotel_feedback(), "G\u00e4stebewertung"), "app_ko": (app_reviews(), "\ub9ac\ubdf0")}


ROWS = 20_000  # of a file that is large for these tests
TEXT = 'text,date,stars\n"Late, and\nbroken",2026-11-01,1\n\nÄrger mit der App,2026-11-02,2\nFine,,5\n'


def stored(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "new.csv"
    path.write_bytes(content)
    return path


def both(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[NewReviews | str]:
    """What the file gives when it is read whole, and row by row: the reviews, or the message."""
    found: list[NewReviews | str] = []
    for large in (path.stat().st_size, -1):
        monkeypatch.setattr(new_reviews, "LARGE", large)
        try:
            found.append(read_new_reviews(path, ReadOptions()))
        except DataError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.replace(",", ";").replace("\n", "\r\n").encode("utf-32"),
        b"sep=;\r\n" + TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").rstrip().encode(),
        b"Late.\nBroken, and late.\nFine.\n",
    ],
    ids=["utf-8", "mark", "utf-16", "utf-32", "sep", "tab", "one column"],
)
def test_a_file_gives_the_same_reviews_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    whole, streamed = both(stored(tmp_path, content), monkeypatch)
    assert isinstance(whole, NewReviews)
    assert whole == streamed
    assert whole.total == (2 if content.startswith(b"Late") else 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text\nfine\n\xff late\n", "line 3: byte 0xff is not UTF-8"),
        (b"text\nfine\nla\x00te\n", "line 3: a NUL byte"),
        (b'text,stars\nfine,1\n"late,2\n', "line 3: a double quote is opened here and never closed"),
        (b"text,stars\nfine,1\nlate,2,3\n", "line 3: 3 cells, the header has 2"),
        (b"text,text\nfine,1\n", "the header has column 'text' 2 times"),
        (b"text,,stars\nfine,x,1\n", "column 2 has no name in the header"),
        (b"text\rfine\rlate\r", "its lines end as on old Macs"),
        (b'{"text": "late"}\n', "this is JSON, not a table"),
        (b"\x1f\x8b\x08 text\n", "this is a gzip file"),
        (b"when,stars\n1,5\n", "no column 'text': it has when, stars"),
        (b"text,stars\n,5\n", "the column 'text' is empty in all 1 rows"),
    ],
)
def test_a_bad_file_gets_the_same_line_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    whole, streamed = both(stored(tmp_path, content), monkeypatch)
    assert isinstance(whole, str)
    assert message in whole
    assert "\n" not in whole
    assert whole == streamed


def test_a_large_file_needs_the_memory_of_its_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = " Nobody answered." * 10
    rows = "".join(f"{number},The parcel number {number} came late.{more}\n" for number in range(ROWS))
    path = stored(tmp_path, f"id,text\n{rows}".encode())
    monkeypatch.setattr(new_reviews, "LARGE", 2**20)
    tracemalloc.start()
    found = read_new_reviews(path, ReadOptions(sample=200))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.total, len(found.texts)) == (ROWS, 200)
    assert found.notes == (f"a random sample of 200 of {ROWS:,} reviews was compared (--sample)",)
    numbers = [int(text.split()[3]) for text in found.texts]
    assert numbers == sorted(numbers)
    assert 0.4 < sum(numbers) / len(numbers) / ROWS < 0.6  # from all of the file: five standard errors
    assert peak < path.stat().st_size
    assert read_new_reviews(path, ReadOptions(sample=200)) == found


def test_seconds_since_1970_are_days_in_utc_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(
        tmp_path, b"text,time\nLate,1780271999\nLate,1780272000\nLate,2026-06-01T00:30:00+09:00\nLate,3/4/2026\n"
    )
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        found = read_new_reviews(path, ReadOptions())
        days = [day.isoformat() if day else None for day in found.dates]
        assert days == ["2026-05-31", "2026-06-01", "2026-06-01", None]
        assert "1 of 4 cells of 'time' are not dates like 2026-11-29" in found.notes[0]
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("new", [True, False], ids=["new", "labelled"])
def test_a_large_file_is_read_as_a_small_one(
    name: str, new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, column = FILES[name]
    path, options = tmp_path / "new.csv", ReadOptions(configured=column, sample=7)
    path.write_bytes(data.new_content if new else data.content)
    small = read_new_reviews(path, options)
    monkeypatch.setattr(new_reviews, "LARGE", 0)
    assert read_new_reviews(path, options) == small


def test_personal_data_are_masked_as_for_the_training(tmp_path: Path, config: Config) -> None:
    """In the question, in the comparison with the reference, and in the examples of a new topic."""
    masked = config.model_copy(update={"data": config.data.model_copy(update={"mask_personal": True})})
    things = ("parcel", "box", "letter", "jar", "cup", "shirt", "lamp", "chair")
    known = [f"The {things[n % 8]} number {n} came {n} days late, said [EMAIL]." for n in range(64)]
    topic = [f"The app crashes at login on screen {n}; jane{n}@mail.example wants a new password." for n in range(40)]
    facts = make_reference(known[40:], ["late"] * 24, ["late"] * 24, None, training=40)
    asked = list[Asked]()

    def answer(one: Asked) -> object:
        asked.append(one)
        return scored_completion("no_issue")

    with odd_server({CHAT: answer}) as server:
        folder = served_folder(tmp_path / "served", provided_by(masked, server.base_url))
        reference = StoredReference(facts, text_features(known))
        watched = Watched("reviews", "1", open_classifier(folder), reference, masked.data)
        path = tmp_path / "new.csv"
        path.write_text("text\n" + "".join(f'"{text}"\n' for text in topic))
        report = monitor(watched, read_new_reviews(path, ReadOptions()))
    assert report.topics
    assert "[EMAIL]" in report.topics[0].examples[0]
    assert "@mail.example" not in report.model_dump_json()
    assert not any("@mail.example" in one.review for one in asked)


def test_a_date_before_1970_is_none(tmp_path: Path) -> None:
    """Databases write 0001-01-01 or 1900-01-01 where a date is missing."""
    path = stored(tmp_path, b"text,date\nLate,0001-01-01\nLate again,1900-01-01\nFine,2026-11-29\n")
    new = read_new_reviews(path, ReadOptions())
    assert [day and day.year for day in new.dates] == [None, None, 2026]
    assert any("2 of 3 cells of 'date' are not dates" in note for note in new.notes)
