"""The comparison of training recipes: what its words mean, that it resumes, and which recipe its table chooses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.recipe_search import forecast, results, table, trials
from reviewtune.local_server.engine.base_models.catalogue import CATALOGUE
from reviewtune.local_server.engine.training.recipes import Recipe

PROJECT = Path(__file__).parents[2]
SHIPPED = Recipe(learning_rate=1e-4, frozen_layers=0.5, n_epochs=2, dropout=0.1)


def test_words_change_the_shipped_recipe() -> None:
    trial = trials.parse("rank=16 learning_rate=1e-3 average=0.25 smoothing=0.1 prompt=detailed", SHIPPED)
    assert trial == trials.Trial(
        Recipe(1e-3, 0.5, n_epochs=2, dropout=0.1, rank=16, label_smoothing=0.1, average=0.25), prompt="detailed"
    )
    assert trials.parse("rank=none", trial.recipe).recipe.rank is None
    assert trials.parse("shipped", SHIPPED) == trials.Trial(SHIPPED)


def test_a_recipe_is_named_by_what_differs() -> None:
    trial = trials.parse("average=0.25 rank=16 n_epochs=2", SHIPPED)
    assert trial.name(SHIPPED) == "rank=16 average=0.25"
    assert trials.Trial(SHIPPED).name(SHIPPED) == "shipped"
    assert trials.of_values(json.loads(json.dumps(trial.values))) == trial


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rnk=16", "'rnk=16' is not key=value with one of the keys learning_rate, frozen_layers, "),
        ("rank", "'rank' is not key=value"),
        ("rank=0", "'rank=0': must be a whole number of at least 1"),
        ("learning_rate=fast", "'learning_rate=fast': not a number of the right kind"),
        ("learning_rate=nan", "'learning_rate=nan': must be above 0"),
        ("frozen_layers=1", "'frozen_layers=1': must be at least 0 and below 1"),
        ("prompt=long", "'prompt=long': must be one of short, detailed"),
    ],
)
def test_a_wrong_word_is_named(words: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        trials.parse(words, SHIPPED)
    assert str(error.value).startswith(message)


def job(data: str = "reviews_en", seed: int = 13, **changes: Any) -> results.Job:
    recipe = trials.Trial(SHIPPED).values
    return results.Job("b", recipe, data, "d", seed, "float32", "c")._replace(**changes)


def result(of: results.Job, accuracy: float = 0.5, seconds: float = 10.0) -> dict[str, Any]:
    return {**of._asdict(), "accuracy": accuracy, "seconds": seconds, "whole_seconds": seconds, "processor": "none"}


def test_finished_runs_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "new" / "recipes.jsonl"
    assert results.read(file) == []
    results.append(file, result(job()))
    todo = [job(), job(seed=14), job(code="other"), job(data_digest="other"), job(precision="bfloat16")]
    assert results.unfinished(todo, results.read(file)) == todo[1:]


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_line_that_was_cut_off_is_repeated(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "recipes.jsonl"
    for seed in (13, 14):
        results.append(file, result(job(seed=seed)))
    file.write_bytes(file.read_bytes()[:-cut])
    assert [stored["seed"] for stored in results.read(file)] == [13]
    results.append(file, result(job(seed=15)))
    assert [stored["seed"] for stored in results.read(file)] == [13, 15]


@pytest.mark.parametrize("line", ["{oops", "[1]", '{"base": "b"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "recipes.jsonl"
    file.write_text(f"{line}\n{json.dumps(result(job()))}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"recipes\.jsonl line 1: not .*; remove the line"):
        results.read(file)


def scores(**accuracies: list[float]) -> dict[str, dict[table.Run, dict[str, Any]]]:
    """Results of two data sets and two seeds; the first recipe is the slowest."""
    runs = [(data, seed) for data in ("a", "b") for seed in (13, 14)]
    return {
        name: {run: {"accuracy": value, "seconds": 10 - place} for run, value in zip(runs, values, strict=False)}
        for place, (name, values) in enumerate(accuracies.items())
    }


def test_the_fastest_recipe_within_one_standard_error_is_chosen() -> None:
    rows = table.rows(scores(best=[0.9, 0.8, 0.7, 0.6], close=[0.9, 0.7, 0.8, 0.5], worse=[0.5, 0.4, 0.3, 0.1]))
    assert [(row.name, row.marks) for row in rows] == [
        ("best", (table.BEST,)),
        ("close", (table.CLOSE, table.CHOSEN)),
        ("worse", ()),
    ]
    assert rows[0].accuracy == pytest.approx(0.75)
    assert rows[1].difference == pytest.approx(-0.025)
    assert rows[1].error == pytest.approx(0.0957427 / 2)  # differences 0, -0.1, 0.1, -0.1
    assert rows[2].error == pytest.approx(0.05 / 2)  # what the data sets differ by cancels
    assert rows[2].by_data == pytest.approx({"a": 0.45, "b": 0.2})


def test_only_runs_that_all_recipes_have_finished_are_compared() -> None:
    rows = table.rows(scores(whole=[0.5, 0.5, 0.9, 0.9], part=[0.6, 0.6], none=[]))
    assert [(row.name, row.accuracy) for row in rows] == [("part", 0.6), ("whole", 0.5)]
    assert table.rows(scores(none=[])) == []


def test_the_table_reads_the_same_as_text_and_as_markdown() -> None:
    rows = table.rows(scores(full=[0.9, 0.8, 0.7, 0.6], small=[0.5, 0.4, 0.3, 0.1]))
    text, markdown = table.as_text(rows).splitlines(), table.as_markdown(rows).splitlines()
    assert text[2].split() == ["small", "0.3250", "-0.4250", "(0.0250)", "0.450", "0.200", "9"]
    assert markdown[3] == "| small | 0.3250 | -0.4250 (0.0250) | 0.450 | 0.200 | 9 |  |"


def test_the_forecast_follows_finished_runs() -> None:
    sizes = {("reviews_en", "short"): forecast.Size(100, 10), ("twice", "short"): forecast.Size(200, 20)}
    jobs = [job(seed=14), job(data="twice")]
    both = forecast.forecast(jobs, [result(job())], sizes, "none")
    assert both.measured
    assert both.seconds == pytest.approx(30)
    assert not forecast.forecast([job(base="other")], [result(job())], sizes, "none").measured
    assert not forecast.forecast([job(precision="bfloat16")], [result(job())], sizes, "none").measured
    assert not forecast.forecast(jobs, [result(job())], sizes, "amx_bf16").measured
    slower = trials.parse("n_epochs=4 frozen_layers=0", SHIPPED).values
    assert forecast.work(slower, sizes["twice", "short"]) > 3 * forecast.work(job().recipe, sizes["twice", "short"])


def test_the_table_takes_the_precision_of_the_results() -> None:
    stored = [result(job(precision=name, code=results.CODE)) for name in ("float32", "bfloat16", "bfloat16")]
    assert results.usual_precision(stored, ["b"]) == "bfloat16"
    assert results.usual_precision(stored, ["other"]) is None


def test_the_table_needs_no_base_model(tmp_path: Path) -> None:
    """The recipes of all names of the catalogue are known without their files."""
    assert set(trials.FAMILIES) == set(CATALOGUE)
    command = [sys.executable, "benchmarks/recipes.py", "--data", "reviews_en", "--seeds", "13", "--table"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "REVIEWTUNE_HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, "--base", "gemma-3-270m"], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    assert "shipped" in done.stdout
    assert "Over 1 pair of data set and seed" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_command_names_a_wrong_recipe_in_one_line() -> None:
    command = [sys.executable, "benchmarks/recipes.py", "--data", "reviews_en", "--recipe", "rank=0", "--list"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["recipes.py: 'rank=0': must be a whole number of at least 1"]
