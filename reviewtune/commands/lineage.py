"""Where a run comes from and what it led to: data, splits, chat files, job, model, evaluations, application.

All of it is read from the tags of runs and of registered versions, so it also works for a run whose files were removed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reviewtune.core.plotting import BLUE, GREY, new_figure, png_of
from reviewtune.errors import DataError
from reviewtune.tracking.registry import RegisteredVersion
from reviewtune.tracking.runs import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

SHORT = 12  # shown digits of a hash
TRAINED = ("finetune", "job")  # kinds of runs whose tags name the training data


@dataclass(frozen=True)
class Step:
    """One step to the model: its kind, such as "splits", and what identifies it, such as hashes."""

    kind: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Lineage:
    """The steps to a model, every evaluation of that model, and the versions (by run id) that were registered of it."""

    run: RunRecord
    steps: tuple[Step, ...]
    evaluations: tuple[RunRecord, ...]
    registered: Mapping[str, tuple[RegisteredVersion, ...]]


def trace(run: RunRecord, runs: Sequence[RunRecord], versions: Sequence[RegisteredVersion] = ()) -> Lineage:
    """Find the lineage of a fine-tune, an evaluation or a job of a sweep.

    Args:
        run: the run to trace.
        runs: all runs of the store.
        versions: all versions in the model registry: what applications use, or used.

    Raises:
        DataError: the run has no data set, such as a sweep or a comparison.
    """
    if "data_sha256" not in run.tags:
        hint = "choose a fine-tune, an evaluation or a job of a sweep"
        raise DataError(f"run {run.id} ({run.tags.get('kind', 'unknown kind')}) has no data set; {hint}")
    related = _related(run, runs)
    evaluations = [other for other in related if _scores(other)]
    evaluations.sort(key=lambda other: other.ended or 0)
    registered = {other.id: tuple(one for one in versions if one.run_id == other.id) for other in evaluations}
    return Lineage(run, tuple(_steps(_tags(run, related))), tuple(evaluations), registered)


def _related(run: RunRecord, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """All runs with the same model. Of a prompt arm only itself: other prompts of the base model are not related."""
    if run.tags.get("arm_kind") == "prompt":
        return [run]
    model = run.tags.get("model")
    return [other for other in runs if model and other.tags.get("model") == model and other.tags.get("data_sha256")]


def _tags(run: RunRecord, related: Sequence[RunRecord]) -> dict[str, str]:
    """The run's tags, completed by those of the run that trained its model."""
    training = next((other.tags for other in related if other.tags.get("kind") in TRAINED), {})
    return {**training, **run.tags}


def _steps(tags: dict[str, str]) -> list[Step]:
    splits = [f"{name} {tags[key][:SHORT]}" for name in ("train", "valid", "test") if (key := f"{name}_sha256") in tags]
    code = [f"code {tags['code_sha256'][:SHORT]}"] if "code_sha256" in tags else []
    steps = [
        Step("data", (tags.get("data", ""), f"sha256 {tags['data_sha256'][:SHORT]}")),
        Step("splits", tuple(splits)),
    ]
    if "training_sha256" in tags:
        steps.append(Step("chat files", (f"training {tags['training_sha256'][:SHORT]}", *_prompt(tags))))
    elif _prompt(tags):
        steps.append(Step("prompt", _prompt(tags)))
    if "job_id" in tags:
        revision = tags.get("git_revision", "unknown")[:SHORT]
        steps.append(Step("job", (tags["job_id"], f"on {tags.get('base_model', '?')}", f"git {revision}", *code)))
    if "model" in tags:
        steps.append(Step("model", (tags["model"],)))
    return steps


def _prompt(tags: dict[str, str]) -> tuple[str, ...]:
    name = tags.get("prompt", "")
    return (f"prompt {name} {tags['prompt_fingerprint']}".replace("  ", " "),) if "prompt_fingerprint" in tags else ()


def to_text(lineage: Lineage) -> str:
    """A tree for the terminal; an arrow marks the traced run."""
    lines, last = [], len(lineage.evaluations) - 1
    for depth, step in enumerate(lineage.steps):
        branch = "" if depth == 0 else f"{'   ' * (depth - 1)}└─ "
        lines.append(f"{branch}{step.kind}: {', '.join(step.facts)}")
    for number, run in enumerate(lineage.evaluations):
        branch = "└─ " if number == last else "├─ "
        mark = "  <- this run" if run.id == lineage.run.id else ""
        indent = "   " * (len(lineage.steps) - 1)
        lines.append(f"{indent}{branch}evaluation: {_line(run)}{mark}")
        below = f"{indent}{'   ' if number == last else '│  '}"
        lines += [f"{below}└─ application: {', '.join(_served(one))}" for one in lineage.registered[run.id]]
    return "\n".join(lines)


def _served(version: RegisteredVersion) -> list[str]:
    """A registered version: whether it is the one that applications use, since when, and who decided that."""
    tags, role = version.tags, " and ".join(version.aliases) or "in the registry"
    since = [f"since {tags['champion_since']}", f"by {tags['champion_by']}"] if "champion_since" in tags else []
    return [f"{version.name} version {version.version}", role, *since]


def _scores(run: RunRecord) -> list[tuple[str, str]]:
    """The accuracies that the run has, each with its split; jobs of sweeps have one on the validation split."""
    scores = {"accuracy": "test", "validation_accuracy": "valid"}
    return [(metric, split) for metric, split in scores.items() if metric in run.metrics]


def _line(run: RunRecord) -> str:
    return ", ".join(
        [run.name, *(_score(run, metric, split) for metric, split in _scores(run)), f"run {run.id[:SHORT]}"]
    )


def _score(run: RunRecord, metric: str, split: str) -> str:
    value, low, high = (run.metrics.get(f"{metric}{end}") for end in ("", "_low", "_high"))
    interval = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    digest = run.tags.get(f"{split}_sha256", "")[:SHORT]
    return f"accuracy {value:.3f}{interval}{f' on {split} {digest}' if digest else ''}"


def picture(lineage: Lineage) -> bytes:
    """The same as boxes from top to bottom, as PNG; a thick border marks the traced run."""
    boxes = [(step.kind, list(step.facts), False) for step in lineage.steps]
    evaluations = [
        ("evaluation", [*_short(run), *_applications(lineage.registered[run.id])], run.id == lineage.run.id)
        for run in lineage.evaluations
    ]
    width, height = max(1, len(evaluations)), len(boxes) + bool(evaluations)
    figure, axes = new_figure(max(6.5, 3.4 * width), 1.25 * height)
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(0.5 - height, 0.5))
    above = None
    for row, (kind, facts, marked) in enumerate(boxes):
        box = _box(axes, width / 2, -row, kind, facts, marked)
        _arrow(axes, above, box)
        above = box
    for column, (kind, facts, marked) in enumerate(evaluations):
        _arrow(axes, above, _box(axes, column + 0.5, -len(boxes), kind, facts, marked))
    return png_of(figure)


def _applications(versions: Sequence[RegisteredVersion]) -> list[str]:
    return [fact for version in versions for fact in ("APPLICATION", *_served(version))]


def _short(run: RunRecord) -> list[str]:
    scores = [f"accuracy on {split} {run.metrics[metric]:.3f}" for metric, split in _scores(run)]
    return [run.name, *scores, f"run {run.id[:SHORT]}"]


def _box(axes: "Axes", x: float, y: float, kind: str, facts: list[str], marked: bool) -> "Text":
    text = "\n".join([kind.upper(), *facts])
    edge = {"edgecolor": BLUE, "linewidth": 2} if marked else {"edgecolor": GREY, "linewidth": 1}
    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", **edge}
    return axes.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)


def _arrow(axes: "Axes", start: "Text | None", end: "Text") -> None:
    """From the edge of one box to the edge of the other."""
    if start is None:
        return
    edges = {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch(), "shrinkA": 0, "shrinkB": 0}
    style = {"arrowstyle": "->", "color": GREY, **edges}
    axes.annotate("", xy=end.get_position(), xytext=start.get_position(), arrowprops=style)
