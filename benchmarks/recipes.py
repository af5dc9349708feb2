"""Compare training recipes of the local engine by their held-out accuracy over several data sets and seeds.

    python benchmarks/recipes.py --base smollm2-135m-instruct --recipe shipped --recipe "rank=16 learning_rate=1e-3"
    python benchmarks/recipes.py --list                      # what would run, and about how long
    python benchmarks/recipes.py --table --markdown          # only the table of the stored results

`--recipe` changes values of the recipe that ships for the base model: learning_rate, frozen_layers, n_epochs,
batch_size, dropout, rank (none: full weights), alpha, label_smoothing (or smoothing), average=SHARE (averages the
weights of the last SHARE of the steps) and prompt=detailed (lists the labels with their meanings).

Each result is appended to --results when it is known. Stop the command at any time; the next one resumes, and repeats
only the training that was cut off. A result counts as finished for equal rows, recipe, seed, precision and code. Test
splits are never read. benchmarks/data_sets.py describes the data sets.
"""

import argparse
import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import data_sets
from engine_runs import fine_tune, in_a_process
from recipe_search import results, table, trials
from recipe_search.forecast import Forecast, Size, forecast
from recipe_search.results import Job
from reviews import accuracy

from reviewtune.core.config.loading import load_config
from reviewtune.core.formatting import counted
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.engine.training.recipes import Recipe, recipe_for

HERE = Path(__file__).parent
SEEDS = (13, 14)


class Plan(NamedTuple):
    """What is compared."""

    jobs: list[Job]
    shipped: dict[str, Recipe]  # by base model
    parts: dict[str, data_sets.Parts]  # by data set
    sizes: dict[tuple[str, str], Size]  # by data set and prompt
    processor: str  # of this machine; empty if nothing is to run


def main() -> None:
    options = _options()
    try:
        stored = results.read(options.results)
        plan = _plan(options, stored)
    except (ValueError, ReviewtuneError) as error:
        sys.exit(f"recipes.py: {error}")
    todo = [] if options.table else results.unfinished(plan.jobs, stored)
    if not options.table:
        _preview(todo, len(plan.jobs), stored, plan)
    if options.list:
        for job in todo:
            print(_describe(job, plan))
        return
    _run_all(todo, plan, stored, options.results)
    for base in options.base:
        _print_table(base, plan, stored, options.markdown)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="+", default=["smollm2-135m-instruct"])
    parser.add_argument(
        "--recipe", action="append", help="may be repeated; the shipped recipe without it", dest="recipes"
    )
    parser.add_argument("--data", nargs="+", default=list(data_sets.NAMES), choices=data_sets.NAMES, metavar="NAME",
                        help=", ".join(data_sets.NAMES))  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--shared", type=Path, default=data_sets.SHARED, help="folder of banking77/ and parakqc_ko/")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "recipes.jsonl")
    parser.add_argument("--list", action="store_true", help="only list what would run")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--precision", help="of the results in the table; default: that of most of them")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/engine.md")
    options = parser.parse_args()
    if options.precision and not options.table:
        parser.error("--precision is for --table; a training takes the precision that is fast on this machine")
    options.recipes = options.recipes or [trials.SHIPPED]
    return options


def _plan(options: argparse.Namespace, stored: Sequence[dict[str, Any]]) -> Plan:
    shipped = {base: _shipped(base, only_table=options.table) for base in options.base}
    parts = {name: data_sets.load(name, options.shared) for name in dict.fromkeys(options.data)}
    here = _stored_precision(options, stored) if options.table else in_a_process(processor)
    jobs = {}
    recipes = [(base, trials.parse(words, shipped[base]).values) for base in options.base for words in options.recipes]
    # All recipes of a run one after the other, so that a stopped comparison has complete runs.
    for seed, name, (base, recipe) in itertools.product(options.seeds, parts, recipes):
        job = Job(base, recipe, name, parts[name].digest, seed, here["precision"], results.CODE)
        jobs[job.key] = job  # two --recipe may mean the same
    prompts = {job.recipe["prompt"] for job in jobs.values()}
    sizes = {(name, prompt): _size(of, prompt) for name, of in parts.items() for prompt in prompts}
    return Plan(list(jobs.values()), shipped, parts, sizes, here["processor"])


def _shipped(base: str, *, only_table: bool) -> Recipe:
    from reviewtune.local_server.engine.base_models.ensure import ensure

    if only_table and base in trials.FAMILIES:  # nothing is fetched to print what is stored
        return trials.shipped_for(base)
    return recipe_for(ensure(base, cache_folder()))


def _stored_precision(options: argparse.Namespace, stored: Sequence[dict[str, Any]]) -> dict[str, str]:
    """As `processor`, for a table: it may be printed on another machine than the one that measured."""
    return {"precision": options.precision or results.usual_precision(stored, options.base) or "", "processor": ""}


def _prompt(name: str, labels: dict[str, str]) -> Prompt:
    return Prompt(load_config([f"prompt={name}"]).prompt, labels)


def _size(parts: data_sets.Parts, prompt: str) -> Size:
    # The system message is computed once for several texts (training/packing.py).
    shared = len(_prompt(prompt, parts.labels).system.encode()) // 8
    train, held_out = (int(part["text"].str.encode("utf-8").str.len().sum()) + shared * len(part) for part in parts[:2])
    return Size(train, held_out)


def _preview(todo: Sequence[Job], count: int, stored: Sequence[dict[str, Any]], plan: Plan) -> None:
    left = forecast(todo, stored, plan.sizes, plan.processor)
    print(f"{count} trainings, {count - len(todo)} of them finished; {_left(left)}" if todo else "nothing to run")


def _left(left: Forecast) -> str:
    rough = "" if left.measured else ", a guess until a training of each base model is finished"
    return f"about {math.ceil(left.seconds / 60)} min left{rough}"


def _describe(job: Job, plan: Plan) -> str:
    return f"{job.base}, {trials.of_values(job.recipe).name(plan.shipped[job.base])}, {job.data}, seed {job.seed}"


def _run_all(todo: Sequence[Job], plan: Plan, stored: list[dict[str, Any]], path: Path) -> None:
    for number, job in enumerate(todo, 1):
        print(f"{number} of {len(todo)}: {_describe(job, plan)}", flush=True)
        parts = plan.parts[job.data]
        result = {**job._asdict(), **in_a_process(measure, job, parts)}
        results.append(path, result)
        stored.append(result)
        left = _left(forecast(todo[number:], stored, plan.sizes, plan.processor)) if number < len(todo) else "done"
        print(f"  accuracy {result['accuracy']:.3f} of {result['n']} held-out texts, {result['seconds']:.0f} s; {left}")


def measure(job: Job, parts: data_sets.Parts) -> dict[str, Any]:
    """Train and answer the held-out texts; the values of a result."""
    start, trial = time.perf_counter(), trials.of_values(job.recipe)
    prompt = _prompt(trial.prompt, parts.labels)
    with tempfile.TemporaryDirectory() as work:
        tuned = partial(fine_tune, seed=job.seed, recipe=trial.recipe)
        trained = tuned(job.base, Path(work), prompt, parts.train, parts.held_out)
        share = accuracy(trained.folder, prompt, parts.held_out)
    return {
        "accuracy": share.value,
        "n": len(parts.held_out),
        "held_out_loss": trained.held_out_loss,
        "seconds": round(trained.seconds, 2),
        "whole_seconds": round(time.perf_counter() - start, 2),  # with loading and answering
        "peak_gb": round(trained.peak_gb, 2),
        "trained_tokens": trained.tokens,
        "processor": processor()["processor"],
    }


def processor() -> dict[str, str]:
    """The precision that the engine computes in, and what makes it fast."""
    import torch

    from reviewtune.local_server.engine.model_loading import CPU_BF16, device, fast_precision

    target = device()
    features = torch.cpu.get_capabilities() if target.type == "cpu" else {}
    fast = next((name for name in CPU_BF16 if features.get(name)), "none")
    return {
        "precision": str(fast_precision(target)).removeprefix("torch."),
        "processor": fast if target.type == "cpu" else target.type,
    }


def _print_table(base: str, plan: Plan, stored: Sequence[dict[str, Any]], markdown: bool) -> None:
    by_key = {results.key_of(result): result for result in stored}
    scores: dict[str, dict[table.Run, dict[str, Any]]] = {}
    for job in (job for job in plan.jobs if job.base == base):
        runs = scores.setdefault(trials.of_values(job.recipe).name(plan.shipped[base]), {})
        if job.key in by_key:
            runs[job.data, job.seed] = by_key[job.key]
    rows = table.rows(scores)
    print(f"\n{base}")
    if not rows:
        print("no run that all recipes have finished")
        return
    print((table.as_markdown if markdown else table.as_text)(rows))
    runs = table.common_runs(scores)
    used = {json.dumps(scores[row.name][run]["processor"]) for row in rows for run in runs}
    print(
        f"\nOver {counted(len(runs), 'pair')} of data set and seed; SE: standard error of the mean difference to the "
        f"best recipe over these pairs. chosen: the fastest to train of those within one SE of the best."
    )
    if len(used) > 1:
        print("The seconds come from different processors, so do not compare them.")


if __name__ == "__main__":
    main()
