"""The comparison for people: Markdown, and a table for the terminal; both made from the report in comparison.json.

Words are as honest as the numbers: "better" and "worse" only where the test and the interval agree, else "undecided".
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from reviewtune.core.formatting import change, money, p_value, percent, points, rate, times, with_interval
from reviewtune.evaluation.comparison.findings import (
    confidence_lines,
    correction_lines,
    cost_lines,
    extra_lines,
    finetuned_of,
    latency_rows,
    sections,
)

if TYPE_CHECKING:
    from rich.console import Console

Report = Mapping[str, Any]

SPARE = ("per s", "hard", "F1")  # columns that a narrow terminal does without; reports/comparison.md has them all
GAP = 2  # between two columns

HOW_TO_READ = """\
- *Precision*, *recall* and *F1* are averages over the labels, weighted by their number of reviews; *macro F1* gives
  each label the same weight.
- An *unusable* answer names no label of the list. It counts as an error everywhere.
- Square brackets hold 95 % confidence intervals: Wilson's for an accuracy, a paired bootstrap's for a difference.
- *Better* or *worse* is said only when the exact McNemar test has p < 0.05 after Holm's correction for the number of
  arms in the table, and the interval of the difference excludes 0. Else the verdict is *undecided*: this test set
  cannot tell the two apart, which does not say that they are equal.
- *Sure enough* is a threshold on the label's probability, chosen on one half of the test reviews and measured on the
  other, and the reverse.
- A difference would *often go unseen* below the size that this many reviews show in 8 of 10 such test sets (Connor
  1987), given on how many of them the two arms disagree.
- *Label prior taken out*: an un-tuned model finds some labels likelier whatever the review says. Its answers here are
  the labels' log-probabilities minus each label's mean over the test reviews (batch calibration, arXiv 2309.17249; no
  test label is used); *as answered* is what it says by itself.
- *Cost* is measured tokens times the dated price book; training is in it only where that is said.
- *p50*, *p95*, *p99*: so long half, 95 % and 99 % of the answers took at most, with as many requests under way at once
  as `provider.concurrency` says (a batch's answers have no time of their own). *Speed* is that of the machine at hand.
"""


class Row(NamedTuple):
    """One line of the guide's table."""

    metric: str
    base: str
    finetuned: str
    improvement: str


def to_markdown(report: Report) -> str:
    """reports/comparison.md: the verdicts, the guide's table, the arms' table, and how to read them."""
    reference, arms = report["reference"], report["arms"]
    rows = [_cells(arm, report) for arm in arms]
    parts = [
        "# Comparison",
        f"{report['n']} test reviews, {len(report['labels'])} labels, {len(arms)} arms; the reference is {reference}.",
        bullets(verdict_lines(report, bold="**")),
        "## Base model and fine-tuned model",
        _markdown_table([Row("Metric", f"Base ({reference})", "Fine-tuned", "Improvement"), *guide_rows(report)])
        if finetuned_of(report)
        else "No fine-tuned arm takes part.",
        "## All arms",
        _markdown_table([list(rows[0]), *(list(row.values()) for row in rows)]),
        _unusable_line(report),
        *_money_and_time(report),
        *(part for heading, lines in sections(report).items() for part in (f"## {heading}", bullets(lines))),
        "## How to read this",
        HOW_TO_READ.strip(),
        "## The runs",
        f"In the MLflow UI (`make ui`), this filter shows them:\n\n```\n{mlflow_filter(report)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def render(report: Report, console: "Console | None" = None) -> None:
    """Print the comparison; fits 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    if finetuned_of(report):
        guide = Table(
            "metric", box=SIMPLE_HEAD, title=f"fine-tuned against {report['reference']}, {report['n']} test reviews"
        )
        for name in ("base", "fine-tuned", "improvement"):
            guide.add_column(name, justify="right")
        for line in guide_rows(report):
            guide.add_row(*line)
        console.print(guide)
    rows = _fitting([_short_cells(arm, report) for arm in report["arms"]], console.width)
    table = Table(title="all arms", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if number else "left", overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row.values()))
    console.print(table)
    for sentence in verdict_lines(report):
        console.print(escape(sentence), highlight=False)
    corrections = [f"label prior taken out, {told}" for told in correction_lines(report)]
    if latencies := latency_rows(report):
        answered = Table(latencies[0][0], box=SIMPLE_HEAD, pad_edge=False)
        for name in latencies[0][1:]:
            answered.add_column(name, justify="right")
        for cells in latencies[1:]:
            answered.add_row(*map(escape, cells))
        console.print(answered)
    for sentence in [*cost_lines(report), *corrections, *confidence_lines(report), *extra_lines(report)]:
        console.print(escape(sentence), highlight=False)


def verdict_lines(report: Report, bold: str = "") -> list[str]:
    """One sentence on the fine-tuned model against each arm, the reference first; without one, on each arm."""
    accuracies = {arm["arm"]: arm["accuracy"]["value"] for arm in report["arms"]}
    tuned, reference = finetuned_of(report), report["reference"]
    if tuned:
        duels = sorted(report["finetuned_against"].items(), key=lambda item: item[0] != reference)
        pairs = [(tuned["arm"], name, duel, duel["only_other_right"]) for name, duel in duels]
    else:
        entries = [(arm["arm"], arm["against_reference"]) for arm in report["arms"] if arm["against_reference"]]
        pairs = [(name, reference, duel, duel["only_reference_right"]) for name, duel in entries]
    return [_sentence(this, other, accuracies, duel, lost, bold) for this, other, duel, lost in pairs]


def guide_rows(report: Report) -> list[Row]:
    """The usual guide's table: the reference, the fine-tuned arm, and what changed."""
    tuned = finetuned_of(report)
    base = next(arm for arm in report["arms"] if arm["arm"] == report["reference"])
    if tuned is None:
        return []
    rows = [_share("Accuracy", base["accuracy"]["value"], tuned["accuracy"]["value"])]
    rows += [_share(name.capitalize(), base[name], tuned[name]) for name in ("precision", "recall")]
    rows += [_share("F1", base["f1"], tuned["f1"]), _share("Macro F1", base["macro_f1"], tuned["macro_f1"])]
    for name, part in base["slices"].items():
        if name in tuned["slices"]:
            values = part["accuracy"]["value"], tuned["slices"][name]["accuracy"]["value"]
            rows.append(_share(f"Accuracy, {name} ({part['n']} reviews)", *values))
    for name, key in (("Cost per 1,000", "cost_per_1k"), ("... at gpt-4o-mini", "cost_per_1k_at_gpt_4o_mini")):
        rows.append(Row(name, money(base[key]), money(tuned[key]), change(base[key], tuned[key])))
    speeds = base["reviews_per_second"], tuned["reviews_per_second"]
    return [*rows, Row("Reviews per second", rate(speeds[0]), rate(speeds[1]), times(*speeds))]


def mlflow_filter(report: Report) -> str:
    """The MLflow filter that finds the arms' runs."""
    ids = ", ".join(f"'{arm['mlflow_run_id']}'" for arm in report["arms"] if arm["mlflow_run_id"])
    return f"attributes.run_id IN ({ids})"


def _cells(arm: Mapping[str, Any], report: Report) -> dict[str, str]:
    """Column -> text, for one arm."""
    slices = {name: percent(part["accuracy"]["value"]) for name, part in arm["slices"].items()}
    return {
        "Arm": arm["arm"],
        "Model": arm["model"],
        "Accuracy": with_interval(arm["accuracy"]),
        "F1": percent(arm["f1"]),
        "Macro F1": percent(arm["macro_f1"]),
        **slices,
        "Cost per 1,000": money(arm["cost_per_1k"]),
        "at gpt-4o-mini": money(arm["cost_per_1k_at_gpt_4o_mini"]),
        "Reviews/s": rate(arm["reviews_per_second"]),
        "Unusable": str(arm["invalid"]),
        f"Against {report['reference']}": _against(arm["against_reference"], interval=True),
    }


def _short_cells(arm: Mapping[str, Any], report: Report) -> dict[str, str]:
    """What fits a terminal."""
    cells = _cells(arm, report)
    free = not any(one["cost_per_1k"] for one in report["arms"])
    return {
        "arm": cells["Arm"],
        "accuracy %": cells["Accuracy"].replace(" %", ""),
        "F1": cells["F1"].removesuffix(" %"),
        **({"hard": percent(arm["hard_accuracy"]).removesuffix(" %")} if "hard_accuracy" in arm else {}),
        ("$/1k at\n4o-mini" if free else "$/1k"): cells["at gpt-4o-mini" if free else "Cost per 1,000"],
        "per s": cells["Reviews/s"],
        **({"unusable": cells["Unusable"]} if any(one["invalid"] for one in report["arms"]) else {}),
        f"against\n{report['reference']}": _against(arm["against_reference"], interval=False),
    }


def _fitting(rows: "list[dict[str, str]]", width: int) -> "list[dict[str, str]]":
    """As many columns as a terminal has room for: a figure that was cut reads as another one."""
    for name in SPARE:
        if sum(_width(rows, column) for column in rows[0]) <= width:
            break
        rows = [{column: cell for column, cell in row.items() if column != name} for row in rows]
    return rows


def _width(rows: "list[dict[str, str]]", column: str) -> int:
    return max(map(len, [*column.split("\n"), *(row[column] for row in rows)])) + GAP


def _sentence(
    this: str, other: str, accuracies: Mapping[str, float], duel: Mapping[str, Any], lost: int, bold: str
) -> str:
    verdict = duel["verdict"]
    words = f"undecided between {this} and {other}" if verdict == "undecided" else f"{this} is {verdict} than {other}"
    values = f"{percent(accuracies[this])} right against {percent(accuracies[other])}"
    bounds = f"{points(duel['difference']['low'])} to {points(duel['difference']['high'])}"
    test = f"95 % interval {bounds}, exact McNemar with Holm's correction {p_value(duel['holm_p'])}"
    only = f"only {this} is right on {duel['only_this_right']} reviews, only {other} on {lost}"
    sentence = f"{bold}{words}{bold}: {values}, {points(duel['difference']['value'])} points ({test}); {only}"
    if verdict == "undecided":
        sentence += f"; {_detectable(duel['detectable_difference'])}"
    return sentence + "."


def _detectable(difference: float | None) -> str:
    if difference is None:
        return "they disagree too rarely for this test set to tell"
    return f"a true difference under {100 * difference:.1f} points would often go unseen"


def _money_and_time(report: Report) -> list[str]:
    """The section's heading and parts; none when there is nothing to say."""
    costs, latencies = cost_lines(report), latency_rows(report)
    parts = [bullets(costs)] * bool(costs) + [_markdown_table(latencies)] * bool(latencies)
    return ["## Money and time", *parts] if parts else []


def _unusable_line(report: Report) -> str:
    counts = [f"{arm['arm']} {arm['invalid']}" for arm in report["arms"] if arm["invalid"]]
    return f"Unusable answers, counted as errors: {', '.join(counts) or 'none'}."


def _against(duel: Mapping[str, Any] | None, *, interval: bool) -> str:
    if duel is None:
        return "reference"
    difference = duel["difference"]
    bounds = f" [{points(difference['low'])}, {points(difference['high'])}], {p_value(duel['holm_p'])}"
    return f"{points(difference['value'])}{bounds if interval else ''} {duel['verdict']}"


def _share(name: str, base: float, tuned: float) -> Row:
    return Row(name, percent(base), percent(tuned), f"{points(tuned - base)} points")


def _markdown_table(rows: "list[Any]") -> str:
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def bullets(lines: "list[str]") -> str:
    return "\n".join(f"- {line}" for line in lines)
