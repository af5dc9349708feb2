"""Prices, estimates and break-even points, compared with manually calculated values."""

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.terminal.progress import SILENT, Progress, TerminalProgress
from reviewtune.errors import BudgetError
from reviewtune.evaluation.comparison.break_even import break_even_report
from reviewtune.evaluation.metrics.classification import score
from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.evaluation.metrics_file import ArmKind, ArmMetrics, ValidationMetrics
from reviewtune.finetuning.cost import epochs_of, reserve_training
from reviewtune.providers.pricing import Range, Usage, amortised, break_even, estimate, inference_cost

MINI = "gpt-4o-mini-2024-07-18"
USD = st.floats(0, 100).map(lambda usd: round(usd, 4))


def test_a_batch_costs_half(config: Config) -> None:
    row, usage = config.prices.models[MINI], Usage(2_000_000, 1_000_000, 1_000_000)
    for kind in ("base", "finetuned"):
        online, batch = (inference_cost(usage, row, kind, mode) for mode in ("online", "batch"))
        assert batch == pytest.approx(online / 2)


def test_every_price_names_its_source_and_date(config: Config) -> None:
    rows = [row for model in config.prices.models.values() for row in (model.base, model.finetuned)]
    assert len(rows) == 8
    assert all(date.fromisoformat(row.date) <= date.fromisoformat(config.prices.date) for row in rows)
    assert all(len(row.source) > 10 for row in rows)
    assert all(row.batch.input < row.input and row.cached < row.input < row.output for row in rows)


def test_the_price_paid_is_within_the_estimate(config: Config) -> None:
    """100 prompts of 200 tokens, answers of 1 to 20: 0.0030 USD of input, 0.00006 to 0.0012 of output."""
    row = config.prices.models[MINI]
    low, high = estimate([200] * 100, 20, row, "base")
    for tokens in (1, 20):
        assert low <= inference_cost(Usage(20_000, 0, 100 * tokens), row, "base") <= high
    assert high == pytest.approx(0.0033 + 0.0012)
    assert low == pytest.approx(0.0027 + 0.00006)


def test_break_even_of_known_prices() -> None:
    """Training 3 USD; 0.03 against 0.09 USD for 1,000 reviews: 3 / 0.06 = 50 thousand."""
    assert break_even(3.0, 0.03, 0.09) == 50_000
    assert break_even(3.0, 0.09, 0.03) is None
    assert break_even(3.0, 0.05, 0.05) is None
    assert break_even(0.0, 0.0, 0.0) == 0
    assert break_even(0.0, 0.1, 0.05) is None


@given(USD, USD, USD)
def test_break_even_is_where_the_sums_cross(training: float, own: float, other: float) -> None:
    volume = break_even(training, own, other)
    if volume is None:
        assert own >= other
    else:
        slack = 1e-6 * (1 + training)
        assert training + volume * own / 1000 <= volume * other / 1000 + slack
        assert volume == 0 or training + (volume - 1) * own / 1000 >= (volume - 1) * other / 1000 - slack
        assert volume == 0 or amortised(own, training, volume) <= other + slack


def test_training_that_exceeds_the_budget_is_refused_before_it_starts(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 lines of 11 tokens, 3 epochs: 990 tokens at 3 USD a million. The jobs of a sweep share the cap."""
    monkeypatch.setenv("REVIEWTUNE_SWEEP_PARENT", "a-sweep")
    path, turns = tmp_path / "training.jsonl", [("user", "late"), ("assistant", "yes")]
    line = json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})
    path.write_text(f"{line}\n" * 30)
    priced = config.provider.model_copy(update={"kind": "openai", "priced_as": MINI})
    training = config.training.model_copy(update={"n_epochs": 3})

    def reserve(provider: ProviderConfig, budget_usd: float | None, progress: Progress = SILENT) -> Range | None:
        return reserve_training(
            file=path,
            provider=provider,
            training=training,
            prices=config.prices,
            budget_usd=budget_usd,
            progress=progress,
        )

    expected = reserve(priced, None, TerminalProgress())
    assert expected is not None
    tokens = 30 * 3 * (3 + 2 * (3 + 1 + 1))
    assert expected == pytest.approx((0.9 * tokens * 3e-6, 1.1 * tokens * 3e-6), rel=0.01)
    assert f"{tokens:,} tokens may cost" in capsys.readouterr().out
    cap = 1.5 * expected.high
    reserve(priced, cap)
    with pytest.raises(BudgetError, match=r"evaluation\.budget_usd"):
        reserve(priced, cap)
    assert reserve(config.provider, cap) is None


@pytest.mark.parametrize(("examples", "epochs"), [(10, 10), (30, 3), (34, 3), (1000, 3), (10_000, 2), (30_000, 1)])
def test_auto_epochs_are_those_of_the_cookbook(config: Config, examples: int, epochs: int) -> None:
    assert epochs_of(config.training.model_copy(update={"n_epochs": "auto"}), examples) == epochs


def arm(
    kind: ArmKind,
    accuracy: float,
    cost: float,
    *,
    name: str = "arm",
    validation: float | None = None,
    **training: float,
) -> ArmMetrics:
    """An arm at a provider that charges nothing; `cost` is at gpt-4o-mini's prices."""
    scores = score(["a"] * 10, ["a"] * round(10 * accuracy) + ["b"] * round(10 - 10 * accuracy), labels=["a", "b"])
    costs = {"cost_per_1k": 0.0, "cost_per_1k_at_gpt_4o_mini": cost, **training}
    fields = {"validation": None if validation is None else on_validation(validation), **costs}
    return ArmMetrics.of_scores(scores, arm=name, kind=kind, model="m", test_sha256="t", **fields)


def on_validation(accuracy: float) -> ValidationMetrics:
    right = proportion(round(10 * accuracy), 10)
    return ValidationMetrics(n=10, accuracy=right, accuracy_as_answered=None, accuracy_prior_corrected=None)


def test_the_fine_tune_is_compared_with_the_prompt_that_is_best_on_the_validation_reviews() -> None:
    """Not with the one that is best on the test reviews."""
    finetuned = arm("finetuned", 0.8, 0.03, training_usd=0.0, training_usd_at_gpt_4o_mini=0.3)
    arms = [
        arm("prompt", 0.7, 0.01, name="lucky", validation=0.3),
        arm("prompt", 0.5, 0.09, name="best", validation=0.5),
        arm("linear", 0.9, 0.0, validation=0.9),
        finetuned,
    ]
    report = break_even_report(arms, reference="lucky")
    assert report is not None
    assert report.against == "best"
    assert report.at_provider is not None
    assert report.at_provider.break_even_reviews == 0
    assert report.at_gpt_4o_mini is not None
    assert report.at_gpt_4o_mini.break_even_reviews == 5_000
    assert report.at_gpt_4o_mini.amortised_per_1k == {1_000: 0.33, 10_000: 0.06, 100_000: 0.033, 1_000_000: 0.0303}
    assert break_even_report(arms[:3], reference="lucky") is None
    assert break_even_report([finetuned], reference="lucky") is None
    unasked = [arm("prompt", 0.7, 0.01, name="lucky"), arm("prompt", 0.5, 0.09, name="reference"), finetuned]
    for reference, against in (("reference", "reference"), ("linear", "lucky")):
        report = break_even_report(unasked, reference=reference)
        assert report is not None
        assert report.against == against
