"""Where a run comes from and what came of it: data -> splits -> chat files -> job -> model -> evaluations.

Read from the tags of the runs alone, so that it works for a run whose files are long gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reviewtune.core.plotting import BLUE, GREY, new_figure, png_of
from reviewtune.errors import DataError
from reviewtune.tracking.runs import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

SHORT = 12  # digits of a hash that are shown
TRAINED = ("finetune", "job")  # kinds of runs that know what the model was trained on


@dataclass(frozen=True)
class Step:
    """One thing on the way: its kind, such as "splits", and what names it."""

    kind: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Descent:
    """The way to a model, and every evaluation of that model."""

    run: RunRecord
    steps: tuple[Step, ...]
    evaluations: tuple[RunRecord, ...]


def trace(run: RunRecord, runs: Sequence[RunRecord]) -> Descent:
    """The descent of a fine-tune, an evaluation or a job of a sweep, among all `runs` of the store.

    Raises:
        DataError: the run names no data, as a sweep or a comparison.
    """
    if "data_sha256" not in run.tags:
        hint = "choose a fine-tune, an evaluation or a job of a sweep"
        raise DataError(f"run {run.id} ({run.tags.get('kind', 'unknown kind')}) names no data of its own; {hint}")
    model = run.tags.get("model", "")
    same = [one for one in runs if model and one.tags.get("model") == model and one.tags.get("data_sha256")]
    tags = {**next((dict(one.tags) for one in same if one.tags.get("kind") in TRAINED), {}), **run.tags}
    if run.tags.get("arm_kind") == "prompt":  # another run of the base model is no kin
        same, tags = [run], dict(run.tags)
    tests = tuple(one for one in same if "accuracy" in one.metrics)
    return Descent(run, tuple(_steps(tags)), tuple(sorted(tests, key=lambda one: one.ended or 0)))


def _steps(tags: dict[str, str]) -> list[Step]:
    splits = [f"{name} {tags[key][:SHORT]}" for name in ("train", "valid", "test") if (key := f"{name}_sha256") in tags]
    code = [f"code {tags['code_sha256'][:SHORT]}"] if "code_sha256" in tags else []
    found = [
        Step("data", (tags.get("data", ""), f"sha256 {tags['data_sha256'][:SHORT]}")),
        Step("splits", tuple(splits)),
    ]
    if "training_sha256" in tags:
        found.append(Step("chat files", (f"training {tags['training_sha256'][:SHORT]}", *_prompt(tags))))
    elif _prompt(tags):
        found.append(Step("prompt", _prompt(tags)))
    if "job_id" in tags:
        revision = tags.get("git_revision", "unknown")[:SHORT]
        found.append(Step("job", (tags["job_id"], f"on {tags.get('base_model', '?')}", f"git {revision}", *code)))
    if "model" in tags:
        found.append(Step("model", (tags["model"],)))
    return found


def _prompt(tags: dict[str, str]) -> tuple[str, ...]:
    name = tags.get("prompt", "")
    return (f"prompt {name} {tags['prompt_fingerprint']}".replace("  ", " "),) if "prompt_fingerprint" in tags else ()


def to_text(descent: Descent) -> str:
    """A tree for the terminal; the run that was asked for bears an arrow."""
    lines = []
    for depth, step in enumerate(descent.steps):
        lead = "" if depth == 0 else f"{'   ' * (depth - 1)}└─ "
        lines.append(f"{lead}{step.kind}: {', '.join(step.facts)}")
    for number, run in enumerate(descent.evaluations):
        branch = "└─ " if number == len(descent.evaluations) - 1 else "├─ "
        mark = "  <- this run" if run.id == descent.run.id else ""
        lines.append(f"{'   ' * (len(descent.steps) - 1)}{branch}evaluation: {_line(run)}{mark}")
    return "\n".join(lines)


def _line(run: RunRecord) -> str:
    metrics = run.metrics
    known = "accuracy_low" in metrics
    interval = f" ({metrics['accuracy_low']:.3f} to {metrics['accuracy_high']:.3f})" if known else ""
    test = f" on test {run.tags['test_sha256'][:SHORT]}" if "test_sha256" in run.tags else ""
    return f"{run.name}, accuracy {metrics['accuracy']:.3f}{interval}{test}, run {run.id[:SHORT]}"


def picture(descent: Descent) -> bytes:
    """The same as boxes from top to bottom, as PNG."""
    boxes = [(step.kind, list(step.facts), False) for step in descent.steps]
    tests = [("evaluation", _short(run), run.id == descent.run.id) for run in descent.evaluations]
    width = max(1, len(tests))
    figure, axes = new_figure(max(6.5, 3.4 * width), 1.25 * (len(boxes) + bool(tests)))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(-(len(boxes) + bool(tests)) + 0.5, 0.5))
    above = None
    for row, (kind, facts, marked) in enumerate(boxes):
        box = _box(axes, width / 2, -row, kind, facts, marked)
        _arrow(axes, above, box)
        above = box
    for column, (kind, facts, marked) in enumerate(tests):
        _arrow(axes, above, _box(axes, column + 0.5, -len(boxes), kind, facts, marked))
    return png_of(figure)


def _short(run: RunRecord) -> list[str]:
    return [run.name, f"accuracy {run.metrics['accuracy']:.3f}", f"run {run.id[:SHORT]}"]


def _box(axes: "Axes", x: float, y: float, kind: str, facts: list[str], marked: bool) -> "Text":
    style = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": BLUE if marked else GREY}
    text = "\n".join([kind.upper(), *facts])
    box = {**style, "linewidth": 2 if marked else 1}
    return axes.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)


def _arrow(axes: "Axes", start: "Text | None", end: "Text") -> None:
    """From the edge of one box to the edge of the other."""
    if start is None:
        return
    edges = {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch(), "shrinkA": 0, "shrinkB": 0}
    how = {"arrowstyle": "->", "color": GREY, **edges}
    axes.annotate("", xy=end.get_position(), xytext=start.get_position(), arrowprops=how)
