"""Rows a second and the memory of `reviewtune classify FILE --out FOLDER` with a linear champion.

    python benchmarks/bulk.py --rows 10000 100000 1000000

Fits the linear arm on the project's training split of its English reviews, writes a file of each size to a temporary
folder (the reviews again and again, each with its number), and classifies it in a process of its own. Prints the size
of the file, the seconds from the first row to the last part, rows a second, and the highest memory of the process
before and after. The memory is flat if it grows by at most 20 % from the smallest to the largest file.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reviews import split_reviews
from served_models import write_served

from reviewtune.analyzer.calibration import fit_calibration
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.analyzer.served_model import TRAINING_REVIEWS
from reviewtune.bulk.parquet_files import to_bytes
from reviewtune.bulk.parts import Format
from reviewtune.bulk.run import PART_ROWS, Work, run
from reviewtune.bulk.sources import find_sources
from reviewtune.core.config.loading import load_params
from reviewtune.evaluation import linear_baseline
from reviewtune.local_server.engine.highest_memory import highest_memory

MIB = 2**20
ALLOWED = 1.2  # growth of the memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--part-rows", type=int, default=PART_ROWS)
    parser.add_argument("--source", choices=("csv", "parquet"), default="csv", help="format of the file that is read")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of a process that classifies
    options = parser.parse_args()
    if options.folder:
        _measure(options.folder, options.part_rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        texts = _write_champion(Path(folder) / "served")
        peaks = [_measured(Path(folder), texts, rows, options.part_rows, options.source) for rows in options.rows]
    growth = peaks[-1] / peaks[0]
    print(f"memory of the largest file: {growth:.2f} times that of the smallest, {ALLOWED} allowed")


def _write_champion(folder: Path) -> list[str]:
    """Write the served model; the texts of all reviews."""
    config = load_params(Path("params.yaml"))
    train, valid, test = split_reviews(config)
    known, labels, unseen = train["text"].tolist(), train["label"].tolist(), valid["text"].tolist()
    answers = linear_baseline.fit_predict(known, labels, unseen, seed=0)
    right = [label == truth for label, truth in zip(answers.labels, valid["label"], strict=True)]
    calibration = fit_calibration(answers.confidence, right)
    fields = {"model": linear_baseline.MODELS["linear"], "calibration": calibration, "threshold": 0.8}
    write_served(folder, config, arm="linear", kind="linear", **fields)
    train[["text", "label"]].to_csv(folder / TRAINING_REVIEWS, index=False)
    return [text for part in (train, valid, test) for text in part["text"]]


def _measured(folder: Path, texts: list[str], rows: int, part_rows: int, source: Format) -> float:
    """Write the file, classify it in another process, print what that printed; the highest memory in MiB."""
    new = folder / f"{rows}.{source}"
    write_reviews(new, texts, rows)
    (folder / "new").unlink(missing_ok=True)
    (folder / "new").symlink_to(new)
    command = [sys.executable, __file__, "--folder", str(folder), "--part-rows", str(part_rows)]
    *lines, peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    print(*lines, sep="\n", flush=True)
    new.unlink()
    return float(peak)


def write_reviews(path: Path, texts: list[str], rows: int) -> None:
    """Write a CSV or Parquet file with the column text: the texts again and again, each with its number."""
    numbered = (f"{texts[number % len(texts)]} {number}" for number in range(rows))
    if path.suffix == ".parquet":
        path.write_bytes(to_bytes({"text": str}, [(text,) for text in numbered]))
        return
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_lines(numbered))


def _lines(texts: Iterator[str]) -> Iterator[str]:
    yield "text\n"
    for text in texts:
        quoted = text.replace('"', '""')
        yield f'"{quoted}"\n'


def _measure(folder: Path, part_rows: int) -> None:
    """Classify; print the numbers, and the highest memory alone in the last line."""
    new, columns = folder / "new", load_params(Path("params.yaml")).data.columns
    classifier = ReviewAnalyzer(served_model=folder / "served", cache=True).pinned()
    classifier.classify(["The parcel is late."], cache=True)  # imports and fits
    sources, _ = find_sources(new, columns, text_column=None, keep=())
    out = Path(tempfile.mkdtemp(dir=folder))
    before, started = _peak(), time.perf_counter()
    manifest = run(Work(sources=sources, classifier=classifier, folder=out, part_rows=part_rows))
    seconds, size = time.perf_counter() - started, new.stat().st_size / MIB
    print(
        f"{manifest.rows:,} rows, {size:.0f} MiB, {len(manifest.parts)} parts: {seconds:.0f} s, "
        f"{manifest.rows / seconds:,.0f} rows a second; highest memory {before:.0f} MiB before, {_peak():.0f} MiB after"
    )
    print(_peak())


def _peak() -> float:
    return highest_memory() / MIB


if __name__ == "__main__":
    main()
