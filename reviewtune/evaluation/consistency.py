"""Does a review get the same label each time? Asked again and again, at temperature 0 and at the arm's own."""

from dataclasses import replace
from typing import Any

from reviewtune.core.config import EvaluationConfig, Prices
from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.evaluation.subject import Subject
from reviewtune.providers.inference import Request, Terms, ask


def consistency(subject: Subject, texts: list[str], prices: Prices, settings: EvaluationConfig) -> dict[str, Any]:
    """Share of reviews with one answer in all of the subject's repeats, with Wilson's interval, for each temperature.

    Every time has a seed of its own: a provider that honours seeds would else repeat itself. Unusable answers count as
    one label more.
    """
    found = {}
    for temperature in sorted({0.0, float(subject.temperature)}):
        times = [
            _labels(subject, _again(subject.request, temperature, repeat), texts, prices, settings)
            for repeat in range(1, subject.repeats + 1)
        ]
        same = sum(len(set(answers)) == 1 for answers in zip(*times, strict=True))
        share = proportion(same, len(texts)).as_json()
        found[f"temperature={temperature:g}"] = {"repeats": subject.repeats, "one_answer": share}
    return found


def _again(request: Request, temperature: float, repeat: int) -> Request:
    seed = request.seed + repeat
    return replace(request, temperature=temperature, repeat=repeat, seed=seed, logprobs=False, top_logprobs=None)


def _labels(
    subject: Subject, request: Request, texts: list[str], prices: Prices, settings: EvaluationConfig
) -> list[str | None]:
    assert subject.prompt is not None
    assert subject.provider is not None
    terms = Terms.of(subject.provider, settings, prices, subject.priced)
    asked = ask(terms, request, subject.chats(texts), title=f"{subject.arm}, again")
    return [subject.prompt.parse(answer.text) for answer in asked.answers]
