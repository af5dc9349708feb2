"""Wheels are downloaded once each, whatever interrupts the download; a real pip and a real index on loopback."""

import os
import random
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewtune.local_server.engine.base_models import download as download_module
from reviewtune.local_server.engine.base_models.download import NotOnTheIndex, about, download
from tests.support.gguf_files import write_wheels
from tests.support.package_index import PackageIndex, only_this_index, serving_index

PART_BYTES = 1_500_000


@pytest.fixture
def wheels(tmp_path: Path) -> tuple[str, ...]:
    parts = [random.Random(number).randbytes(PART_BYTES) for number in range(3)]
    return write_wheels(tmp_path / "index", parts)


@pytest.fixture
def index(wheels: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    assert wheels
    with serving_index(tmp_path / "index") as index:
        only_this_index(monkeypatch, index.url)
        yield index


def names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


ALL = [f"toy_part{number}-1.0-py3-none-any.whl" for number in (1, 2, 3)]


def test_a_transfer_that_breaks_off_is_repeated(index: PackageIndex, wheels: tuple[str, ...], tmp_path: Path) -> None:
    index.faults["toy_part2"] = deque(["cut"])
    files = download(wheels, tmp_path / "kept", print)
    assert names(files) == ALL
    assert [file.read_bytes() for file in files] == [(tmp_path / "index" / name).read_bytes() for name in ALL]
    assert index.downloads == {"toy_part1": 1, "toy_part2": 2, "toy_part3": 1}


def test_the_next_attempt_fetches_only_what_is_missing(
    index: PackageIndex, wheels: tuple[str, ...], tmp_path: Path
) -> None:
    index.faults["toy_part2"] = deque(["cut"] * download_module.TRIES)
    with pytest.raises(NotOnTheIndex, match=r"^pip could not download toy-part2==1.0 \(.+\)$"):
        download(wheels, tmp_path / "kept", print)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [ALL[0], ALL[2]]
    index.downloads.clear()
    lines: list[str] = []
    assert names(download(wheels, tmp_path / "kept", lines.append, "toy")) == ALL
    assert index.downloads == {"toy_part2": 1}
    assert lines == ["toy: 2 of 3 parts are here from an earlier attempt"]


def test_a_damaged_file_is_fetched_again(index: PackageIndex, wheels: tuple[str, ...], tmp_path: Path) -> None:
    first, second, _ = download(wheels, tmp_path / "kept", print)
    index.downloads.clear()
    first.write_bytes(first.read_bytes()[:1000])  # cut off
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    second.write_bytes(content)
    files = download(wheels, tmp_path / "kept", print)
    assert [file.read_bytes() for file in files] == [(tmp_path / "index" / name).read_bytes() for name in ALL]
    assert index.downloads == {"toy_part1": 1, "toy_part2": 1}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_resumes(
    index: PackageIndex, wheels: tuple[str, ...], tmp_path: Path, signal_: signal.Signals
) -> None:
    index.faults["toy_part3"] = deque(["stall"])
    kept = tmp_path / "kept"
    code = (
        "import sys; from pathlib import Path\n"
        "from reviewtune.local_server.engine.base_models.download import download\n"
        "download(sys.argv[2:], Path(sys.argv[1]), print)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, kept, *wheels], stderr=subprocess.DEVNULL)
    assert index.stalled.wait(60)
    while {path.name for path in kept.glob("*.whl")} != {*ALL[:2]}:
        assert process.poll() is None
    process.send_signal(signal_)
    process.wait(20)
    if signal_ == signal.SIGINT:
        assert sorted(path.name for path in kept.iterdir()) == ALL[:2]
    index.downloads.clear()
    assert names(download(wheels, kept, print)) == ALL
    assert index.downloads == {"toy_part3": 1}
    assert sorted(path.name for path in kept.iterdir()) == ALL


def test_progress_counts_parts_and_bytes(
    index: PackageIndex, wheels: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index.url
    monkeypatch.setattr(download_module, "REPORT_EVERY", 0.0)
    lines: list[str] = []
    size = sum(file.stat().st_size for file in (tmp_path / "index").iterdir())
    download(wheels, tmp_path / "kept", lines.append, "toy", size)
    pattern = r"toy: (\d) of 3 parts, (\d) of 5 MB(, about \d+ (s|min) left)?"
    found = [match for line in lines if (match := re.fullmatch(pattern, line))]
    assert len(found) == len(lines) > 0
    done = [int(match[1]) for match in found]
    assert done == sorted(done)
    assert (done[-1], found[-1][2]) == (3, "5")


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "about 10 s"), (42, "about 40 s"), (100, "about 2 min"), (3599, "about 60 min")]
)
def test_a_time_is_rough(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_without_an_index_the_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_this_index(monkeypatch)
    with pytest.raises(NotOnTheIndex, match=r"^pip could not download no-such-wheel==0 \(ERROR: .*\)$") as caught:
        download(("no-such-wheel==0",), tmp_path / "kept", print)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "kept").iterdir()) == []
