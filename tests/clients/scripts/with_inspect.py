"""inspect_ai: the model `openai/NAME`, and a task that is scored."""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, system_message
from shared import BASE_URL, INSTRUCTIONS, MODEL, REVIEWS, main, text

os.environ["LOCAL_BASE_URL"], os.environ["LOCAL_API_KEY"] = BASE_URL, "local"  # openai-api/local/NAME


def run(model: str, **options: Any) -> Iterator[str]:
    samples = [Sample(input=review, target="billing") for review in REVIEWS]
    task = Task(dataset=samples, solver=[system_message(INSTRUCTIONS), generate()], scorer=includes())
    (log,) = evaluate(task, model=model, max_tokens=16, log_dir=tempfile.mkdtemp(), display="none", **options)
    if log.status != "success":
        raise RuntimeError(str(log.error))
    return (text(sample.output.completion) for sample in log.samples)


main(
    {
        "openai/": lambda: run(f"openai/{MODEL}"),
        "openai/, responses_api": lambda: run(f"openai/{MODEL}", model_args={"responses_api": True}),
        "openai-api/": lambda: run(f"openai-api/local/{MODEL}"),
    }
)
