"""data/frozen_splits.csv survives Excel and git, each fault has one clear line, and the hash knows a review again."""

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reviewtune.data.personal_data import mask
from reviewtune.data.sides.frozen_file import read_frozen, write_frozen
from reviewtune.data.sides.review_key import review_key, review_keys
from reviewtune.data.sides.side_names import Side
from reviewtune.errors import DataError

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
HEADER = "review_sha256_v1,side\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "frozen_splits.csv"


def test_what_is_written_is_read(path: Path) -> None:
    sides: dict[str, Side] = {B: "test", A: "train", C: "valid"}
    write_frozen(sides, path)
    assert path.read_text() == f"{HEADER}{A},train\n{B},test\n{C},valid\n"
    assert read_frozen(path) == sides


def test_a_file_without_rows_freezes_nothing(path: Path) -> None:
    path.write_text(HEADER)
    assert read_frozen(path) == {}


def test_a_file_that_excel_saved_is_read(path: Path) -> None:
    path.write_bytes(f"\ufeffreview_sha256_v1;side\r\n{A};train\r\n{B.upper()}; Test \r\n;\r\n".encode())
    assert read_frozen(path) == {A: "train", B: "test"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"no column 'review_sha256_v1': it is empty; its first line is review_sha256_v1,side"),
        ("text,side\nx,test\n", r"no column 'review_sha256_v1': it has text, side"),
        ("review_sha256_v2,side\n", r"its hashes are review_sha256_v2, this release reads review_sha256_v1; upgrade"),
        (f"{HEADER}{A},trian\n", r"line 2: side 'trian' is not one of train, valid, test; did you mean 'train'\?"),
        (f"{HEADER}{A},\n", r"line 2: side '' is not one of train, valid, test"),
        (f"{HEADER}12ab,test\n", r"line 2: '12ab' is not the hash of a review, which has 64 hex digits"),
        (f"{HEADER}{A}\n", r"line 2: 1 cell, the header has 2"),
        (
            f"{HEADER}{A},train\n{B},test\n{A},test\n",
            r"line 2: review a{12}... is train here and test in a later row; remove one .* keep `test` if in doubt",
        ),
        (
            f"{HEADER}<<<<<<< HEAD\n{A},train\n=======\n{B},test\n>>>>>>> other\n",
            r"line 2: git left a merge conflict; remove the lines that begin with <<<<<<<",
        ),
    ],
)
def test_a_fault_is_one_line_with_its_place(path: Path, content: str, message: str) -> None:
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_frozen(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused_because_all_reviews_would_move(path: Path) -> None:
    with pytest.raises(DataError, match=r"restore it with `git checkout`.* this one line: review_sha256_v1,side"):
        read_frozen(path)


def test_git_merges_what_two_people_froze(tmp_path: Path, project: Path) -> None:
    """Real git, with the project's .gitattributes; each branch added a hundred reviews."""
    folder, numbers = tmp_path / "repository", random.Random(1)

    def git(*words: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)

    def more(sides: dict[str, Side], count: int) -> dict[str, Side]:
        return {**sides, **{f"{numbers.getrandbits(256):064x}": "test" for _ in range(count)}}

    path = folder / "data" / "frozen_splits.csv"
    common = more({}, 20)
    write_frozen(common, path)
    (folder / ".gitattributes").write_text((project / ".gitattributes").read_text())
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "common")
    git("checkout", "-qb", "theirs")
    theirs = more(common, 100)
    write_frozen(theirs, path)
    git("commit", "-qam", "theirs")
    git("checkout", "-q", "main")
    ours = more(common, 100)
    write_frozen(ours, path)
    git("commit", "-qam", "ours")
    git("merge", "-q", "theirs")
    assert read_frozen(path) == {**ours, **theirs}


PERSONAL = st.sampled_from(
    [
        "jane@mail.example",
        "order 4711-0815-22",
        "+44 20 7946 0958",
        "212-555-0123",
        "[EMAIL]",
        "order number",
        "nr 12345",
    ]
)


@settings(max_examples=200)
@given(st.lists(st.one_of(PERSONAL, st.text(max_size=12)), max_size=6).map(" ".join))
@example("order order 123456 7890123 a@b.example@c.example")
def test_a_masked_review_has_the_hash_of_the_original(text: str) -> None:
    assert review_key(mask(text, "en"), "en") == review_key(text, "en")


def test_case_and_punctuation_do_not_change_the_hash_but_words_do() -> None:
    same = ["Late, and wet!", "late and WET", "late - and wet..."]
    assert len(set(review_keys(same, "en"))) == 1
    assert len(set(review_keys(["late", "wet", "!", "?", "늦었어요"], "en"))) == 5


def test_the_hash_is_the_documented_one() -> None:
    """Known answer: `printf 'late and wet' | sha256sum`."""
    known = subprocess.run(["sha256sum"], input=b"late and wet", capture_output=True, check=True).stdout.split()[0]
    assert review_key("Late, and wet!", "en") == known.decode()
