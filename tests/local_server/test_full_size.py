"""One fine-tune of the default base model, which learns to distinguish three issues."""

from typing import Any

import openai
import pytest

from tests.support.serving import ServerProcess, finished, running, upload

REVIEWS = {
    "billing": ["charged twice", "wrong invoice", "refund missing", "card debited again", "the bill is too high"],
    "delivery": ["parcel came late", "courier lost it", "still not shipped", "left in the rain", "wrong address"],
    "quality": ["broke at once", "cheap plastic", "the colour fades", "zip is torn", "smells awful"],
}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("full") / "data") as server:
        yield server


@pytest.mark.model
def test_fine_tune_learns_its_examples(full: ServerProcess) -> None:
    client = full.client.with_options(timeout=600)
    reviews = [(text, label) for label, texts in REVIEWS.items() for text in texts]
    file = upload(
        client, [{"messages": [*_ask(text), {"role": "assistant", "content": label}]} for text, label in reviews]
    )
    job = client.fine_tuning.jobs.create(
        model="gemma-3-270m", training_file=file.id, hyperparameters={"n_epochs": 6, "batch_size": 4}
    )
    job = finished(client, job.id, 900)
    assert job.status == "succeeded", job.error
    right = sum(_answer(client, str(job.fine_tuned_model), text) == label for text, label in reviews)
    assert right >= 12  # of 15; chance is 5


def _ask(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Name the issue."}, {"role": "user", "content": text}]


def _answer(client: openai.OpenAI, model: str, text: str) -> str | None:
    messages: Any = _ask(text)
    answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_completion_tokens=5)
    return answer.choices[0].message.content
