"""Azure's paths, so that `openai.AzureOpenAI` is a client, too: the same resources, with the model in the path.

https://learn.microsoft.com/azure/ai-services/openai/reference
"""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import Message, Receive, Scope

from reviewtune.local_server.schemas import strict_json

PREFIX = "/openai/"
# The shortest name, so that /chat is not taken for its end.
DEPLOYMENT = re.compile(r"deployments/(?P<model>.+?)/(?P<route>(chat/)?completions|responses(/input_tokens)?)")


def is_azure(scope: Scope) -> bool:
    """Whether a request uses one of Azure's paths."""
    return str(scope["path"]).startswith(PREFIX)


def as_openai(scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """The same request with OpenAI's path; the version of Azure's API makes no difference here.

    Args:
        scope: a request for which `is_azure` holds.
        receive: its body.
    """
    path = str(scope["path"]).removeprefix(PREFIX).removeprefix("v1/")
    if deployment := DEPLOYMENT.fullmatch(path):
        path, receive = deployment["route"], _with_model(receive, deployment["model"])
    query = [pair for pair in parse_qsl(scope["query_string"].decode(), True) if pair[0] != "api-version"]
    changes = {"path": f"/v1/{path}", "raw_path": f"/v1/{path}".encode(), "query_string": urlencode(query).encode()}
    return {**scope, **changes}, receive


def _with_model(receive: Receive, model: str) -> Receive:
    """The body with the deployment's name as its model, whatever model it names: at Azure the path decides."""
    is_read = False

    async def changed() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        body, message = b"", await receive()
        while message["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                return {"type": "http.request", "body": _named(body, model), "more_body": False}
            message = await receive()
        return message

    return changed


def _named(body: bytes, model: str) -> bytes:
    """The body, unchanged if it is not a JSON object: the route refuses it."""
    try:
        content: Any = strict_json.loads(body)
    except ValueError:
        return body
    return json.dumps({**content, "model": model}).encode() if isinstance(content, dict) else body
