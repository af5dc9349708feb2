"""DSPy: Predict with a Literal, and BootstrapFinetune of a program.

It asks for an answer that matches a schema only if LiteLLM's list says that the model can do it: a hosted name.
"""

import os
from collections.abc import Iterator

import dspy
from shared import INSTRUCTIONS, MODEL, REVIEWS, Issue, main, text

HOSTED = f"openai/{os.environ['HOSTED']}"


class Classify(dspy.Signature):
    """Name the issue of the review."""

    review: str = dspy.InputField()
    label: Issue = dspy.OutputField()


def lm() -> Iterator[str]:
    model = dspy.LM(f"openai/{MODEL}", max_tokens=16, cache=False)
    for review in REVIEWS:
        yield text(model(f"{INSTRUCTIONS} {review}")[0])


def predict() -> Iterator[str]:
    """The default adapter falls back to JSON when the model does not keep to its form."""
    with dspy.context(lm=dspy.LM(HOSTED, max_tokens=100, cache=False)):
        program = dspy.Predict(Classify)
        for review in REVIEWS:
            yield program(review=review).label


def json_adapter() -> Iterator[str]:
    with dspy.context(lm=dspy.LM(HOSTED, max_tokens=100, cache=False), adapter=dspy.JSONAdapter()):
        program = dspy.Predict(Classify)
        for review in REVIEWS:
            yield program(review=review).label


def bootstrap_finetune() -> Iterator[str]:
    student_lm = dspy.LM(HOSTED, max_tokens=100, cache=False)
    examples = [dspy.Example(review=review, label="billing").with_inputs("review") for review in REVIEWS * 2]
    student = dspy.Predict(Classify)
    student.set_lm(student_lm)
    teacher = dspy.Predict(Classify)
    teacher.set_lm(student_lm)
    with dspy.context(experimental=True):
        tuned = dspy.BootstrapFinetune().compile(student, trainset=examples, teacher=teacher)
        for review in REVIEWS:
            yield tuned(review=review).label


main({"LM": lm, "Predict": predict, "Predict, JSONAdapter": json_adapter, "BootstrapFinetune": bootstrap_finetune})
