"""Accuracy of the local engine on other data: one fine-tune with `auto` settings, scored on test reviews.

    python benchmarks/accuracy.py --data reviews_ko                    # a file of conf/data, split as the pipeline does
    python benchmarks/accuracy.py --data reviews_ko --add reviews_en   # with another language's training reviews too
    python benchmarks/accuracy.py --train train.csv --test test.csv --labels 10 --per-label 40   # Banking77's own split

CSV files of --train and --test have the columns text and label. `--labels N` keeps the first N labels in alphabetical
order, `--per-label N` the first N training rows of each. Prints accuracy with its interval and the training time. For a
file of conf/data it also prints the accuracy on the held-out reviews: choosing by the test split would be a leak.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from data_sets import meaning
from engine_runs import fine_tune
from reviews import accuracy, correct, split_reviews

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_config
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation.metrics.significance import proportion


class Parts(NamedTuple):
    train: pd.DataFrame
    valid: pd.DataFrame | None
    test: pd.DataFrame
    labels: dict[str, str]


def main() -> None:
    options = _options()
    parts = _of_files(options) if options.train else _of_project(options)
    prompt = Prompt(load_config().prompt, parts.labels)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        trained = fine_tune(options.base, work, prompt, parts.train, parts.valid, seed=options.seed)
        right = correct(trained.folder, prompt, parts.test)
        _print_hard(right, parts.test)
        if parts.valid is not None:
            held_out = accuracy(trained.folder, prompt, parts.valid)
            print(f"{len(parts.valid)} held-out texts, by which a recipe may be chosen: accuracy {held_out.value:.3f}")
    share = proportion(sum(right), len(right))
    print(
        f"{options.base}, {len(parts.labels)} labels, {len(parts.train)} training and {len(parts.test)} test texts: "
        f"seed {options.seed}: accuracy {share.value:.3f} ({share.low:.3f} to {share.high:.3f}), trained in "
        f"{trained.seconds:.0f} s with a peak of {trained.peak_gb:.1f} GB",
        flush=True,
    )


def _print_hard(right: list[bool], test: pd.DataFrame) -> None:
    """The accuracy on the reviews that are marked as hard, if the data set marks any."""
    hard = [hit for hit, mark in zip(right, test.get("hard", [""] * len(test)), strict=True) if str(mark) == "1"]
    if hard:
        share = proportion(sum(hard), len(hard))
        print(f"{len(hard)} hard test texts: accuracy {share.value:.3f} ({share.low:.3f} to {share.high:.3f})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a file of conf/data; reviews_en without it and without --train")
    parser.add_argument("--add", help="another data set whose training reviews are used too")
    parser.add_argument("--train", type=Path, help="a CSV instead of --data")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--labels", type=int)
    parser.add_argument("--per-label", type=int)
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--seed", type=int, default=13, help="of the order of the reviews and of the dropout")
    parser.add_argument("--keep", type=Path, help="a folder for the model, to use it with benchmarks/exported.py")
    options = parser.parse_args()
    if problem := _problem(options):
        parser.error(problem)
    options.data = options.data or "reviews_en"
    return options


def _problem(options: argparse.Namespace) -> str | None:
    """Options that would be ignored, or a folder with an earlier model."""
    if options.train and not options.test:
        return "--train wants --test"
    if options.train and (options.data or options.add):
        return "--data and --add do not go with --train, which names the reviews"
    if not options.train and (options.test or options.labels or options.per_label):
        return "--test, --labels and --per-label are for the files of --train, which is missing"
    if options.keep and (options.keep / "model").exists():
        return f"--keep {options.keep}: there is a model already; name another folder, or remove this one"
    return None


def _config(data: str) -> Config:
    return load_config([f"data={data}"])


def _of_project(options: argparse.Namespace) -> Parts:
    config = _config(options.data)
    parts = split_reviews(config)
    added = [split_reviews(_config(options.add)).train] if options.add else []
    return Parts(pd.concat([parts.train, *added]), parts.valid, parts.test, dict(config.data.labels))


def _of_files(options: argparse.Namespace) -> Parts:
    train, test = (pd.read_csv(path) for path in (options.train, options.test))
    labels = sorted(set(train["label"]))[: options.labels]
    train, test = (table[table["label"].isin(labels)] for table in (train, test))
    if options.per_label:
        train = train.groupby("label").head(options.per_label)
    return Parts(train, None, test, {label: meaning(label) for label in labels})


if __name__ == "__main__":
    main()
