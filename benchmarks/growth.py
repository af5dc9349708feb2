"""Seconds and memory of the pipeline's steps for more and more labelled reviews.

    python benchmarks/growth.py
    python benchmarks/growth.py --rows 200000 --seed 1

Reviews are made of two to five sentences of the project's English reviews with the same label. Every fourth word of six
letters or more is a made-up one, most of them rare, because the vocabulary of real reviews grows with their number; one
review in fifty repeats an earlier one with one word changed. Each size runs in a process of its own. Prints the seconds
of each step, as the clock counts them and of the processor, and the highest memory of the process after it.
"""

import argparse
import csv
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.data.leakage import refuse_leak
from reviewtune.data.preparation import read_splits, write_chat, write_labeled, write_splits
from reviewtune.data.summary import describe
from reviewtune.finetuning.model_record import texts_of
from reviewtune.local_server.engine.highest_memory import highest_memory

SOURCE = Path("data/raw/reviews_en.csv")
SYLLABLES = ("ba", "do", "fin", "gor", "hel", "ka", "lum", "mi", "nor", "pe", "qua", "ris", "sto", "tav", "ul", "vex")
LONG = 6  # letters of a word that may be replaced
REPEATED = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 40_000, 200_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.rows[0], options.seed)
        return
    print("| reviews | step | seconds | of the processor | highest memory |\n|---|---|---|---|---|", flush=True)
    for rows in options.rows:
        command = [sys.executable, __file__, "--one", "--rows", str(rows), "--seed", str(options.seed)]
        subprocess.run(command, check=True)


def measure(rows: int, seed: int) -> None:
    """Run the steps on so many reviews in a temporary folder."""
    config = load_params()
    data = config.data.model_copy(update={"conflicts": "drop"})  # a short text can be made twice, with two labels
    config = config.model_copy(update={"data": data})
    with tempfile.TemporaryDirectory() as folder:
        paths, source = ProjectPaths(Path(folder)), Path(folder) / "reviews.csv"
        paths.frozen_splits.parent.mkdir(parents=True)
        paths.frozen_splits.write_bytes(ProjectPaths().frozen_splits.read_bytes())
        _write(source, rows, np.random.default_rng(seed))

        def prepare() -> None:
            describe(write_labeled(config, source, paths.labeled), config.data, similarity=config.split.similarity)

        def leaks() -> None:
            known = {path.name: texts_of(path, config.prompt) for path in paths.chat.both}
            refuse_leak(read_splits(paths.splits).test, known, similarity=config.split.similarity)

        _timed(rows, "prepare", prepare)
        _timed(rows, "split", lambda: write_splits(config, paths.labeled, paths.splits, frozen=paths.frozen_splits))
        _timed(rows, "chat files", lambda: write_chat(config, paths.splits, paths.chat))
        _timed(rows, "leak check", leaks)


def _timed(rows: int, name: str, step: Callable[[], object]) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    step()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    memory = highest_memory() / 2**20
    print(f"| {rows:,} | {name} | {wall:.1f} | {processor:.1f} | {memory:,.0f} MiB |", flush=True)


def _write(path: Path, rows: int, rng: np.random.Generator) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["review_id", "text", "label", "label_second", "product", "hard"])
        writer.writeheader()
        for number, (text, label) in enumerate(_reviews(rows, rng)):
            writer.writerow(
                {
                    "review_id": f"r{number}",
                    "text": text,
                    "label": label,
                    "label_second": "",
                    "product": "thing",
                    "hard": "0",
                }
            )


def _reviews(rows: int, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    pools, made = _sentences(), list[tuple[str, str]]()
    labels = sorted(pools)
    for _ in range(rows):
        if made and rng.random() < REPEATED:
            text, label = made[int(rng.integers(len(made)))]
            words = text.split()
            words[int(rng.integers(len(words)))] = "really"
        else:
            label = labels[int(rng.integers(len(labels)))]
            chosen = rng.integers(len(pools[label]), size=int(rng.integers(2, 6)))
            text = " ".join(pools[label][place] for place in chosen.tolist())
            words = [_other(word, rng) for word in text.split()]
        made.append((" ".join(words), label))
        yield made[-1]


def _sentences() -> dict[str, list[str]]:
    pools = defaultdict[str, list[str]](list)
    with SOURCE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            pools[row["label"]] += [part for part in re.split(r"(?<=[.!?])\s+", row["text"]) if part]
    return pools


def _other(word: str, rng: np.random.Generator) -> str:
    """The word, or a made-up one: the numbers of these follow Zipf's law."""
    if len(word) < LONG or rng.random() < 0.75:
        return word
    number, parts = int(rng.zipf(1.2) % 10**6) + len(SYLLABLES), []
    while number:
        number, place = divmod(number, len(SYLLABLES))
        parts.append(SYLLABLES[place])
    return "".join(parts)


if __name__ == "__main__":
    main()
