"""The comparison in Markdown, on the terminal, as tables and as pictures."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from reviewtune.evaluation.comparison.break_even import break_even_report
from reviewtune.evaluation.comparison.compare import Arm, compare
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.comparison.console_report import print_comparison
from reviewtune.evaluation.comparison.findings import confidence_lines, cost_lines
from reviewtune.evaluation.comparison.markdown_report import to_markdown
from reviewtune.evaluation.comparison.outputs import arm_table, label_table, outputs_of, write_outputs
from tests.evaluation.comparison.conftest import CASCADE, N
from tests.support.arm_files import LABELS, write_arm


def compared(arms: list[Arm], resamples: int = 100) -> Comparison:
    return compare(arms, reference="zero_shot", seed=1, resamples=resamples, cascade=CASCADE)


def printed(comparison: Comparison, width: int) -> str:
    console = Console(width=width, file=StringIO(), record=True)
    print_comparison(comparison, console)
    return console.export_text()


def test_confidence_and_the_cascade_are_in_the_report(comparison: Comparison) -> None:
    (abstention,) = [line for line in confidence_lines(comparison) if "for an accuracy of 90.0 %" in line]
    report = comparison.confidence["finetuned"].abstention
    assert report is not None
    assert report.threshold is not None
    assert (
        f"probability of at least {report.threshold:.2f}, chosen for an accuracy of 90.0 % on the valid" in abstention
    )
    text = to_markdown(comparison)
    assert "finetuned: expected calibration error" in text
    assert "cascade: zero_shot answers where it is confident, a person answers the other" in text


def test_the_markdown_report(comparison: Comparison) -> None:
    text = to_markdown(comparison)
    assert (
        "**finetuned is better than zero_shot**: accuracy 75.0 % against 50.0 %, +25.0 points (95 % interval +" in text
    )
    assert (
        "exact McNemar with Holm's correction p < 0.001); only finetuned is right on 50 reviews, only zero_shot on 0."
        in text
    )
    assert "**undecided between finetuned and linear**" in text
    assert "| Metric | Base (zero_shot) | Fine-tuned | Improvement |" in text
    assert "| Accuracy | 50.0 % | 75.0 % | +25.0 points |" in text
    assert "| Accuracy, hard=1 (50 reviews) | 100.0 % | 100.0 % | +0.0 points |" in text
    assert "| Cost per 1,000 | $0.0200 | $0.0100 | −50 % |" in text
    assert "| Reviews per second | 12.0 | 12.0 | 1.0 x |" in text
    assert "| linear | model\\|linear |" in text
    assert "Unusable answers, counted as errors: linear 4, zero_shot 10." in text
    assert "attributes.run_id IN ('run_of_linear', 'run_of_zero_shot', 'run_of_finetuned')" in text


def test_a_worse_model_is_called_worse(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, "zero_shot", [number % 4 < 3 for number in range(N)]),
        write_arm(tmp_path, "finetuned", [number % 4 < 2 for number in range(N)], kind="finetuned"),
    ]
    text = to_markdown(compared(arms, resamples=1000))
    assert "**finetuned is worse than zero_shot**: accuracy 50.0 % against 75.0 %, −25.0 points" in text


def test_without_a_finetuned_arm_the_arms_are_tested_against_the_reference(arms: list[Arm]) -> None:
    comparison = compared(arms[:2], resamples=1000)
    text = to_markdown(comparison)
    assert "**linear is better than zero_shot**" in text
    assert "No fine-tuned arm takes part." in text
    assert "linear is better than zero_shot" in printed(comparison, width=100)


def test_the_terminal_needs_100_columns(comparison: Comparison) -> None:
    text = printed(comparison, width=100)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    row = next(line for line in lines if line.lstrip().startswith("zero_shot"))
    assert "50.0 [43.1, 56.9]" in row
    assert "reference" in row
    assert "…" not in text


def test_a_narrow_terminal_gets_fewer_columns_and_no_cut_number(comparison: Comparison) -> None:
    table = printed(comparison, width=72).split("all arms")[1].split("finetuned is better")[0]
    assert "…" not in table
    assert " per s" not in table
    assert "50.0 [43.1, 56.9]" in table


def test_tables_for_plots(comparison: Comparison, arms: list[Arm]) -> None:
    table = arm_table(comparison)
    assert table["arm"].tolist() == ["linear", "zero_shot", "finetuned"]
    assert table["accuracy"].tolist() == [0.74, 0.5, 0.75]
    assert (table["low"] < table["accuracy"]).all()
    assert list(label_table(arms).columns[:2]) == ["arm", "label"]
    assert len(label_table(arms)) == 3 * len(LABELS)


def test_pictures(comparison: Comparison, arms: list[Arm]) -> None:
    pictures = outputs_of(comparison, arms).pictures
    assert set(pictures) == {"accuracy.png", "accuracy_against_cost.png", "calibration.png", "f1_per_label.png"}
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())


def test_equal_arms_give_equal_bytes(arms: list[Arm], tmp_path: Path) -> None:
    first, second = (
        write_outputs(outputs_of(compared(arms), arms), tmp_path / folder) for folder in ("first", "second")
    )
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert json.loads(first[0].read_text(encoding="utf-8")) == compared(arms).model_dump(mode="json")


def test_cost_and_time_are_reported_where_they_are_known(tmp_path: Path) -> None:
    """Training of 6 USD against 0.02 - 0.014 USD saved per 1,000 reviews: paid back after a million."""
    half, most = [True] * 100 + [False] * 100, [True] * 150 + [False] * 50
    arms = [
        write_arm(tmp_path, "zero_shot", half),
        write_arm(tmp_path, "finetuned", most, kind="finetuned", cost_per_1k=0.014, training_usd=6.0),
    ]
    comparison = compared(arms)
    written, on_terminal = to_markdown(comparison), printed(comparison, width=80)
    assert "| zero_shot | 0.10 s | 0.25 s | – | 12.0 |" in written
    assert "p99" in on_terminal
    assert max(map(len, on_terminal.splitlines())) <= 80
    for text in (written, " ".join(on_terminal.split())):
        assert (
            "zero_shot (the best prompt arm on the validation reviews) $0.0200, finetuned $0.0140 without training"
            in text
        )
        assert "with training ($6.00) included, by total number of reviews: $6.01 for 1,000," in text
        assert "with training included, finetuned costs no more than zero_shot from 1,000,000 reviews on" in text


@pytest.mark.parametrize(
    ("saved", "sentence"), [(-0.001, "never costs less than zero_shot"), (0.006, "from 1,000,000 reviews on")]
)
def test_a_fine_tune_that_never_pays_off_is_reported_so(
    saved: float, sentence: str, arms: list[Arm], comparison: Comparison
) -> None:
    zero_shot, finetuned = arms[1].metrics, arms[2].metrics
    costly = finetuned.model_copy(update={"cost_per_1k": 0.02 - saved, "training_usd": 6.0})
    economics = break_even_report([zero_shot, costly], reference="zero_shot")
    assert sentence in cost_lines(comparison.model_copy(update={"economics": economics}))[-1]
