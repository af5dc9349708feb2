"""Small questions to a provider, and a separate process that asks them."""

import json
import os
import subprocess
import sys
from pathlib import Path

from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Message
from reviewtune.providers.completion import Request
from reviewtune.providers.inference import CallPolicy

REQUEST = Request("loopback", None, temperature=0, max_tokens=8, seed=1)


def chats(n: int) -> list[list[Message]]:
    return [[Message(role="user", content=f"label-{i} was late")] for i in range(n)]


def terms(config: Config, base_url: str, **changes: object) -> CallPolicy:
    """`changes` are settings of the provider or of evaluation, by name."""
    settings = config.evaluation.model_dump()
    provider = config.provider.model_copy(
        update={"kind": "compatible", "base_url": base_url, "api_key_env": None, "timeout": 20.0}
        | {name: value for name, value in changes.items() if name not in settings}
    )
    chosen = {name: value for name, value in changes.items() if name in settings}
    return CallPolicy.of(provider, config.evaluation.model_copy(update=chosen), config.prices)


SCRIPT = """
import json, sys
from tests.support.asking import REQUEST, chats, terms
from reviewtune.core.config.loading import load_params
from reviewtune.providers.inference import Request, ask
base_url, n, more, request = json.loads(sys.argv[1])
how = terms(load_params(), base_url, **more)
asked = ask(how, Request(**request) if request else REQUEST, chats(n), title="x")
print(json.dumps([asked.requests, asked.cached, len(asked.answers)]))
"""


def asking_process(
    base_url: str, n: int, *, home: Path, project: Path, request: dict[str, object] | None = None, **changes: object
) -> "subprocess.Popen[str]":
    """Prints the requests sent, the cached answers and all answers as a JSON list of counts."""
    environment = os.environ | {"REVIEWTUNE_HOME": str(home), "PYTHONPATH": str(project)}
    arguments = json.dumps([base_url, n, changes, request])
    command = [sys.executable, "-c", SCRIPT, arguments]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True)
