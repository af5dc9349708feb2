"""Does a review get the same label every time? The same reviews asked again at temperature 0 and at the arm's own."""

from collections.abc import Sequence
from dataclasses import replace

from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.evaluation.metrics_file import Consistency
from reviewtune.evaluation.subject import ModelSubject
from reviewtune.providers.completion import Request
from reviewtune.providers.inference import ask


def consistency(subject: ModelSubject, texts: Sequence[str], *, progress: Progress = SILENT) -> dict[str, Consistency]:
    """Share of reviews with the same label in all of the subject's repeats, with Wilson's interval.

    Every repeat has its own seed; otherwise a provider that honours seeds would return the same answer. An unusable
    answer counts as one more label.

    Returns:
        One entry `temperature=T` for 0 and for the subject's own temperature.
    """
    temperatures = sorted({0.0, float(subject.asking.temperature)})
    return {f"temperature={value:g}": _at_temperature(value, subject, texts, progress) for value in temperatures}


def _at_temperature(temperature: float, subject: ModelSubject, texts: Sequence[str], progress: Progress) -> Consistency:
    repeats = subject.asking.repeats
    requests = [_again(subject.request, temperature, repeat) for repeat in range(1, repeats + 1)]
    labels = [_labels(subject, request, texts, progress) for request in requests]
    same = sum(len(set(answers)) == 1 for answers in zip(*labels, strict=True))
    return Consistency(repeats=repeats, one_answer=proportion(same, len(texts)).rounded())


def _again(request: Request, temperature: float, repeat: int) -> Request:
    seed = request.seed + repeat
    return replace(request, temperature=temperature, repeat=repeat, seed=seed, logprobs=False, top_logprobs=None)


def _labels(subject: ModelSubject, request: Request, texts: Sequence[str], progress: Progress) -> list[str | None]:
    title = f"{subject.arm}, again"
    asked = ask(subject.policy, request, subject.chats(texts), title=title, progress=progress)
    return [subject.prompt.parse(answer.text) for answer in asked.answers]
