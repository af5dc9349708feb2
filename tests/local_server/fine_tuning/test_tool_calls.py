"""Jobs whose examples call functions, through the real server, with a base model whose template has calls."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.serving import LABELS, ServerProcess, finished, running, upload
from tests.support.tool_templates import LLAMA

SORT: Any = {
    "type": "function",
    "function": {
        "name": "sort",
        "parameters": {"type": "object", "properties": {"issue": {"enum": list(LABELS)}}, "required": ["issue"]},
    },
}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "tiny-with-calls"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(LLAMA, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("calls") / "data"
    with running(data, "--base-model", str(base), warm_trainings=True) as process:
        yield process


def example(index: int) -> dict[str, Any]:
    issue = LABELS[index % len(LABELS)]
    function = {"name": "sort", "arguments": json.dumps({"issue": issue})}
    call: dict[str, Any] = {"id": f"call_{index}", "type": "function", "function": function}
    messages = [{"role": "user", "content": f"{issue} was bad, case {index}"}]
    return {"messages": [*messages, {"role": "assistant", "tool_calls": [call]}], "tools": [SORT]}


def called(client: openai.OpenAI, model: str) -> list[bool]:
    """Whether the model calls the function by itself, for reviews that it was not taught."""
    answers = [
        client.chat.completions.create(
            model=model, messages=[example(index)["messages"][0]], tools=[SORT], temperature=0, max_completion_tokens=60
        )
        for index in range(50, 56)
    ]
    return [bool(answer.choices[0].message.tool_calls) for answer in answers]


def test_a_model_learns_to_call_a_function(server: ServerProcess, base: Path) -> None:
    client = server.client
    assert not any(called(client, str(base)))
    parameters: Any = {"n_epochs": 12, "batch_size": 2, "learning_rate_multiplier": 8}
    file = upload(client, [example(index) for index in range(30)])
    job = client.fine_tuning.jobs.create(model=str(base), training_file=file.id, hyperparameters=parameters)
    model = finished(client, job.id).fine_tuned_model
    assert model is not None
    assert all(called(client, model))
