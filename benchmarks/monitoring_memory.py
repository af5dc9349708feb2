"""The memory that `reviewtune monitor` needs for a file of any number of rows.

    python benchmarks/monitoring_memory.py --rows 10000
    python benchmarks/monitoring_memory.py --rows 1000000

Writes a CSV of that many reviews to a temporary folder (the project's English reviews again and again, each with its
number), reads it and makes the whole report on the sample, with a linear arm as champion. Prints the size of the file,
the seconds of reading and of the report, and the highest memory of this process before and after. All imports and the
champion come first, so the growth is that of the file.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from monitoring_streams import LAST, make_stream, make_world, read_data

from reviewtune.local_server.engine.highest_memory import highest_memory
from reviewtune.monitoring.monitor import Watched, monitor
from reviewtune.monitoring.new_reviews import NewReviews, ReadOptions, read_new_reviews


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=ReadOptions().sample)
    options = parser.parse_args()
    rows, topic = read_data("reviews_en", Path())
    world = make_world("reviews_en", rows, topic, np.random.default_rng(0))
    watched = Watched("benchmark", "1", world.champion, world.reference)
    few = make_stream("nothing", world, np.random.default_rng(1))
    monitor(watched, NewReviews(Path("few.csv"), "", tuple(few.texts), few.dates, len(few.texts), ()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(_lines(rows["text"].tolist(), options.rows))
        before, start = _peak(), time.perf_counter()
        new = read_new_reviews(path, ReadOptions(sample=options.sample))
        read, middle = _peak(), time.perf_counter()
        found = monitor(watched, new)
        end = time.perf_counter()
        print(f"{new.total:,} reviews, {path.stat().st_size / 2**20:.0f} MiB; {'; '.join(new.notes)}; {found.verdict}")
        print(f"read in {middle - start:.1f} s, report in {end - middle:.1f} s")
        print(f"highest memory: {before:.0f} MiB before, {read:.0f} MiB after reading, {_peak():.0f} MiB at the end")


def _lines(texts: list[str], rows: int) -> Iterator[str]:
    quoted = [text.replace('"', '""') for text in texts]
    yield "text,date\n"
    for number in range(rows):
        yield f'"{quoted[number % len(quoted)]} {number}",{LAST}\n'


def _peak() -> float:
    return highest_memory() / 2**20


if __name__ == "__main__":
    main()
