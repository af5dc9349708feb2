"""Who won a sweep and by how much: known answers, and properties that any ranking must have."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.sweeps.job import label_of, short_names
from reviewtune.sweeps.plots import pictures
from reviewtune.sweeps.ranking import Result, Row, rank
from reviewtune.sweeps.ranking_report import (
    OnTest,
    on_test_line,
    run_name,
    table_of,
    to_markdown,
    to_text,
    verdict_line,
)

N = 100


def result(right: int, *, valid: str = "v", first: int = 0, tokens: int = 10, size: int = 50, **variant: str) -> Result:
    """A job that answered reviews first .. first + right - 1 of N right."""
    correct = {str(index): first <= index < first + right for index in range(N)}
    loss = 1 - right / N
    name, money = " ".join(map(str, (right, *variant.items()))), 0.1
    interval = proportion(right, N)
    return Result(
        name, variant, interval, right / N, correct, valid, f"ft:{name}", size, tokens, money, loss, loss
    )  # fmt: skip


def ranked(*results: Result) -> list[Row]:
    return rank(results, seed=1, resamples=500)


def test_best_first_and_each_is_held_against_it() -> None:
    rows = ranked(result(50, prompt="a"), result(90, prompt="b"), result(88, prompt="c"))
    assert [(row.rank, row.variant["prompt"]) for row in rows] == [(1, "b"), (2, "c"), (3, "a")]
    assert [row.behind.value if row.behind else None for row in rows] == [
        None,
        pytest.approx(-0.02),
        pytest.approx(-0.4),
    ]
    assert [row.verdict for row in rows] == [None, "undecided", "worse"]


def test_the_order_of_the_jobs_changes_nothing() -> None:
    results = [
        result(right, prompt=name, seed=seed) for right, name, seed in ((60, "a", "1"), (70, "a", "2"), (66, "b", "1"))
    ]
    first, second = ranked(*results), ranked(*reversed(results))
    assert [row.variant for row in first] == [row.variant for row in second]
    assert [row.accuracy for row in first] == [row.accuracy for row in second]


def test_repeats_with_other_seeds_are_one_row_with_mean_and_spread() -> None:
    rows = ranked(
        *(result(right, n_epochs="2", seed=str(right)) for right in (60, 70, 80)), result(50, n_epochs="1", seed="1")
    )
    best = rows[0]
    assert best.variant == {"n_epochs": "2"}
    assert len(best.results) == 3
    assert best.accuracy.value == pytest.approx(0.7)
    assert best.spread == pytest.approx(0.1)  # standard deviation of 0.6, 0.7, 0.8
    assert best.accuracy.low < 0.7 < best.accuracy.high
    assert rows[1].spread is None


def test_a_gap_that_other_seeds_could_close_is_undecided() -> None:
    """Over the reviews alone both gaps exclude 0."""
    steady, shaky = ([result(right, prompt=name, seed=str(right)) for right in rights] for name, rights in (
        ("steady", (50, 51, 52)), ("shaky", (30, 61, 62)),
    ))  # fmt: skip
    best = [result(right, prompt="best", seed=str(right)) for right in (70, 71, 72)]
    assert {row.variant["prompt"]: row.verdict for row in ranked(*steady, *shaky, *best)} == {
        "best": None, "steady": "worse", "shaky": "undecided"
    }  # fmt: skip


def test_other_validation_reviews_are_ranked_but_not_compared() -> None:
    rows = ranked(result(90, data="en"), result(50, data="ko", valid="other"))
    assert rows[1].behind is None
    assert "other validation reviews" in to_markdown(rows)


def test_equal_jobs_are_undecided_and_the_cheaper_training_stands_first() -> None:
    rows = ranked(result(60, prompt="long", tokens=20), result(60, prompt="short", tokens=10))
    assert rows[0].variant == {"prompt": "short"}
    assert rows[1].verdict == "undecided"
    assert "(+0.0 points, 95 % interval +0.0 to +0.0)" in verdict_line(rows)


def test_what_people_read_says_who_won_and_by_how_much() -> None:
    rows = ranked(result(50, prompt="a", n_epochs="1"), result(90, prompt="b", n_epochs="3"))
    assert verdict_line(rows).startswith(
        "best on the validation split: prompt=b n_epochs=3 with 90.0 % right; better than the next"
    )
    assert "+40.0 points" in verdict_line(rows)
    assert run_name(rows[0], rows[0].variant) == "#1 90.0 % (best) prompt=b n_epochs=3"
    assert run_name(rows[1], rows[1].variant) == "#2 50.0 % (−40.0) prompt=a n_epochs=1"
    table = table_of(rows)
    assert table["prompt"].tolist() == ["b", "a"]
    assert table["behind"].tolist()[1] == pytest.approx(-0.4)
    assert "a \\| b" in to_markdown(ranked(result(5, prompt="a | b")), [])


def test_the_best_repeat_of_the_best_variant_is_the_winner() -> None:
    repeats = [result(right, n_epochs="2", seed=str(right)) for right in (60, 80, 70)]
    assert ranked(*repeats)[0].results[0].variant["seed"] == "80"


def test_the_test_split_is_shown_for_the_winner_with_what_it_was_used_for() -> None:
    rows = ranked(result(50, prompt="a"), result(90, prompt="b"))
    winner = rows[0].results[0].run_id
    on_test = OnTest({winner: proportion(81, 100)}, 100, 1)
    assert on_test_line(rows, on_test) == (
        "test split: the winner, prompt=b, has 81.0 % [72.2, 87.5] of 100 reviews right; "
        "the test split was used for this one variant only."
    )
    for text in (to_text(rows, (), on_test), to_markdown(rows, (), "", on_test)):
        assert "81.0 % [72.2, 87.5]" in text
        assert "test %" not in text  # no column to choose by
    table = table_of(rows, on_test).set_index("prompt")
    assert table["test_accuracy"]["b"] == pytest.approx(0.81)
    assert math.isnan(table["test_accuracy"]["a"])


def test_all_scores_on_the_test_split_are_for_information(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    rows = ranked(result(50, prompt="a"), result(90, prompt="b"))
    scores = {row.results[0].run_id: proportion(right, 100) for row, right in zip(rows, (81, 40), strict=True)}
    on_test = OnTest(scores, 100, 2, for_all=True)
    assert "used for 2 jobs of this sweep, for information: do not choose by these" in on_test_line(rows, on_test)
    for text in (to_text(rows, (), on_test), to_markdown(rows, (), "", on_test)):
        assert "test % (for information)" in text
        assert "40.0 [30.9, 49.8]" in text
    assert [row.variant["prompt"] for row in rows] == ["b", "a"]


def test_a_winner_that_could_not_be_asked_is_reported_with_what_to_do() -> None:
    rows = ranked(result(50, prompt="a"))
    line = on_test_line(rows, OnTest(fault="no such model"))
    assert line == "test split: the winner, prompt=a, was not asked: no such model"


def test_failed_jobs_are_named_with_their_messages() -> None:
    assert "- prompt=x: no such model" in to_markdown([], [("prompt=x", "no such model")])


def test_free_models_are_compared_at_named_prices_and_only_if_all_are_free() -> None:
    free = [
        replace(result(right, prompt=str(right)), cost_per_1k=0.0, cost_per_1k_at_gpt_4o_mini=0.25) for right in (5, 6)
    ]
    text = to_markdown(ranked(*free))
    assert "| $ per 1,000 at gpt-4o-mini |" in text
    assert "| 0.2500 |" in text
    mixed = to_markdown(ranked(*free, result(7, prompt="hosted")))
    assert "| $ per 1,000 |" in mixed
    assert ("| 0.1000 |" in mixed, mixed.count("| 0.0000 |"), "0.2500" in mixed) == (True, 2, False)
    assert set(pictures(ranked(*free))) == {"accuracy_against_cost.png"}
    assert set(pictures(ranked(*(replace(one, cost_per_1k_at_gpt_4o_mini=None) for one in free)))) == set()


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([{"prompt": "a"}, {"prompt": "b"}], set()),
        ([{"train_size": "50"}, {"train_size": "all"}], {"learning_curve.png"}),
        ([{"n_epochs": "1"}, {"n_epochs": "3"}, {"n_epochs": "auto"}], {"epochs.png"}),
        (
            [{"train_size": "50", "n_epochs": "1"}, {"train_size": "all", "n_epochs": "3"}],
            {"learning_curve.png", "epochs.png"},
        ),
    ],
)  # fmt: skip
def test_a_picture_for_each_axis_that_varies(rows: list[dict[str, str]], names: set[str]) -> None:
    results = [
        replace(result(40 + 9 * index, size=50 * index + 50), variant=variant) for index, variant in enumerate(rows)
    ]
    drawn = pictures(ranked(*results))
    assert set(drawn) == {"accuracy_against_cost.png", *names}
    assert all(content.startswith(b"\x89PNG") and len(content) > 10_000 for content in drawn.values())


def test_short_names_stay_apart() -> None:
    assert short_names(["prompt", "training.n_epochs", "training.seed"]) == ["prompt", "n_epochs", "seed"]
    assert short_names(["training.seed", "split.seed", "prompt"]) == ["training.seed", "split.seed", "prompt"]
    assert label_of({}) == "as configured"


def test_a_provider_that_gives_no_loss_leaves_the_cell_empty() -> None:
    rows = ranked(
        replace(result(40, n_epochs="1"), valid_loss=None), replace(result(50, n_epochs="2"), valid_loss=None)
    )
    assert all(math.isnan(row.mean("valid_loss")) for row in rows)
    assert "nan" not in to_markdown(rows)
    assert isinstance(table_of(rows), pd.DataFrame)
    assert "epochs.png" in pictures(rows)
