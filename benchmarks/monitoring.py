"""How often `reviewtune monitor` gives the alarm, with and without a reason, next to Evidently's defaults.

    python -m venv ../evidently && ../evidently/bin/pip install -r benchmarks/requirements-evidently.txt
    python benchmarks/monitoring.py --data banking77 --repeats 200 --evidently ../evidently/bin/python
    python benchmarks/monitoring.py --data reviews_en --repeats 20 --streams nothing 'topic 10 %'
    python benchmarks/monitoring.py --report                 # the tables, from the results there are

Each repeat draws another champion, reference and streams of 200 to 500 reviews (monitoring_streams.py); every stream is
one whole report, with dates, so that surges are tested too. An alarm is the report's verdict. Evidently gets the same
texts, labels, confidences and lengths; its alarm is a drifted data set (half of the columns), or any drifted column.
Coverage: how often the 95 % interval of the estimated accuracy contains the accuracy on that stream. Results are
appended to benchmarks/results/monitoring.jsonl; what is there is not repeated, unless CODE has changed.
"""

import argparse
import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monitoring_streams import DATA, STREAMS, Stream, World, make_stream, make_world, read_data

from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.monitoring.monitor import Watched, monitor
from reviewtune.monitoring.new_reviews import NewReviews
from reviewtune.monitoring.report_file import Monitoring

SHARED = Path("../shared/benchmarks")
RESULTS = Path(__file__).with_name("results") / "monitoring.jsonl"
CODE = {"monitor": "1", "evidently": "1"}
"""Increase the monitor's number when its verdicts change, and both when the streams do, so that all is measured again.

1: also for a monitor that counts repeated texts each time, as it did when the first results were stored.
"""
WITHOUT_CHANGE = "nothing"
Key = tuple[str, str, int, str, str]


def main() -> None:
    options = _options()
    if not options.report:
        run(options)
    report(options.data)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="banking77", choices=list(DATA))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first repeat")
    parser.add_argument("--streams", nargs="+", default=list(STREAMS), choices=list(STREAMS))
    parser.add_argument("--evidently", type=Path, help="a Python with Evidently; without it only the monitor runs")
    parser.add_argument("--tools", nargs="+", default=["monitor", "evidently"], choices=["monitor", "evidently"])
    parser.add_argument("--preset", action="store_true", help="Evidently's whole report: slow, the same decisions")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of banking77/")
    parser.add_argument("--report", action="store_true", help="only print the tables")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Do what is missing, one repeat after the other."""
    rows, topic = read_data(options.data, options.shared)
    done = {key(one) for one in results()}
    with _evidently(options) as peer:
        tools = [tool for tool in options.tools if peer or tool == "monitor"]
        for seed in range(options.first, options.first + options.repeats):
            missing = [
                (stream, [tool for tool in tools if (options.data, stream, seed, tool, CODE[tool]) not in done])
                for stream in options.streams
            ]
            if not any(left for _, left in missing):
                continue
            world = make_world(options.data, rows, topic, np.random.default_rng([seed, 0]))
            for name, left in missing:
                for tool in left:
                    one = _measured(tool, world, name, seed, peer)
                    _append(
                        {"data": options.data, "stream": name, "seed": seed, "tool": tool, "code": CODE[tool]} | one
                    )


def _measured(tool: str, world: World, name: str, seed: int, peer: Any) -> dict[str, Any]:  # noqa: ANN401
    place = 1 + list(STREAMS).index(name)
    stream = make_stream(name, world, np.random.default_rng([seed, place]))
    world.champion.dead = stream.dead
    start = time.perf_counter()
    found = _monitored(world, stream) if tool == "monitor" else _asked(peer, world, stream)
    world.champion.dead = None
    return found | {"n": len(stream.texts), "seconds": round(time.perf_counter() - start, 2)}


def _monitored(world: World, stream: Stream) -> dict[str, Any]:
    new = NewReviews(Path("stream.csv"), "", tuple(stream.texts), stream.dates, len(stream.texts), ())
    found = monitor(Watched("benchmark", "1", world.champion, world.reference), new)
    predicted = [answer.label for answer in world.champion.answers(stream.texts)]
    right = np.mean([label == truth for label, truth in zip(predicted, stream.labels, strict=True)])
    return _facts(found) | {"truth": round(float(right), 4)}


def _facts(found: Monitoring) -> dict[str, Any]:
    value = found.accuracy.accuracy
    return {
        "alarm": found.verdict == "alarm",
        "alarms": sorted({test.group for test in found.alarms}),
        "p": {test.group: test.p_adjusted for test in reversed(found.tests)},  # the smallest of each group
        "status": found.accuracy.status,
        "estimate": [value.value, value.low, value.high] if value else None,
    }


def _asked(peer: "subprocess.Popen[str]", world: World, stream: Stream) -> dict[str, Any]:
    answers = world.champion.answers(stream.texts)
    facts = world.reference.facts
    sides = {
        "reference": (world.test["text"].tolist(), facts.predicted, facts.confidence),
        "new": (stream.texts, [one.label for one in answers], [one.confidence for one in answers]),
    }
    tables = {
        side: {"text": texts, "label": labels, "confidence": sure, "length": [len(text) for text in texts]}
        for side, (texts, labels, sure) in sides.items()
    }
    assert peer.stdin is not None
    assert peer.stdout is not None
    print(json.dumps(tables), file=peer.stdin, flush=True)
    found = json.loads(peer.stdout.readline())
    return {"alarm": found["drifted"], "any": found["count"] > 0, "alarms": found["columns"]}


@contextmanager
def _evidently(options: argparse.Namespace) -> "Iterator[subprocess.Popen[str] | None]":
    if options.evidently is None:
        yield None
        return
    command = [str(options.evidently), str(Path(__file__).with_name("evidently_peer.py"))]
    command += ["--preset"] if options.preset else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def key(one: dict[str, Any]) -> Key:
    return one["data"], one["stream"], one["seed"], one["tool"], one["code"]


def results() -> Iterator[dict[str, Any]]:
    """All results; a line that was cut off is left out."""
    for line in RESULTS.read_text().splitlines() if RESULTS.is_file() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _append(one: dict[str, Any]) -> None:
    with RESULTS.open("a") as file:
        file.write(json.dumps(one) + "\n")


class Rates(NamedTuple):
    """Of one stream."""

    monitor: list[dict[str, Any]]
    evidently: list[dict[str, Any]]


def report(data: str) -> None:
    """Print a row of each stream, of the newest code."""
    found: dict[str, Rates] = defaultdict(lambda: Rates([], []))
    for one in results():
        if one["data"] == data and one["code"] == CODE[one["tool"]]:
            getattr(found[one["stream"]], one["tool"]).append(one)
    print("| stream | repeats | monitor | Evidently, data set | Evidently, any column | coverage | raised by |")
    print("|---|---|---|---|---|---|---|")
    for name in STREAMS:
        if name in found:
            print(_row(name, found[name]))


def _row(name: str, rates: Rates) -> str:
    columns = [
        _share([one["alarm"] for one in rates.monitor]),
        _share([one["alarm"] for one in rates.evidently]),
        _share([one["any"] for one in rates.evidently]),
        _share([one["estimate"][1] <= one["truth"] <= one["estimate"][2] for one in rates.monitor if one["estimate"]]),
    ]
    groups: dict[str, int] = defaultdict(int)
    for one in rates.monitor:
        for group in one["alarms"]:
            groups[group] += 1
    raised = ", ".join(f"{group} {count}" for group, count in sorted(groups.items(), key=lambda item: -item[1]))
    return f"| {name} | {len(rates.monitor)} | {' | '.join(columns)} | {raised} |"


def _share(hits: list[bool]) -> str:
    if not hits:
        return ""
    share = proportion(sum(hits), len(hits))
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"


if __name__ == "__main__":
    main()
