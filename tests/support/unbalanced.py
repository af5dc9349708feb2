"""Support tickets with 25 labels and 5 to 120 reviews of each, written by code; and a server that labels them."""

import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from tests.support.http_servers import serving

LABELS = (
    "billing", "login", "export", "refund", "shipping", "warranty", "upgrade", "mobile", "printer", "calendar",
    "webhook", "backup", "discount", "address", "profile", "search", "quota", "import", "keyboard", "licence",
    "newsletter", "outage", "theme", "video", "zoom",
)  # fmt: skip
COUNTS = {label: max(5, round(120 * 0.82**rank)) for rank, label in enumerate(LABELS)}
TOP = 20

Scores = Callable[[str], Mapping[str, float]]


def tickets(counts: Mapping[str, int] = COUNTS) -> pd.DataFrame:
    """One review per line; each contains its label's word and words of its own."""
    rows = [(label, number) for label, n in counts.items() for number in range(n)]
    texts = [f"{label} {_words(label, number)}" for label, number in rows]
    labels = [label for label, _ in rows]
    return pd.DataFrame({"review_id": [f"t{at}" for at in range(len(rows))], "text": texts, "label": labels})


def _words(label: str, number: int) -> str:
    """Eight words that hardly any two reviews share, so that they are not near-duplicates."""
    seeds = [zlib.crc32(f"{label} {number} {place}".encode()) for place in range(8)]
    return " ".join("".join(chr(97 + seed // 26**power % 26) for power in range(5)) for seed in seeds)


def for_tickets(config: Config, counts: Mapping[str, int] = COUNTS, **provider: object) -> Config:
    """The configuration for these labels; `provider` are settings of the provider of all arms."""
    data = config.data.model_copy(update={"labels": {label: f"about {label}" for label in counts}, "slices": ()})
    changed = config.provider.model_copy(update=provider)
    arms = {
        name: arm.model_copy(update={"provider": changed}) if isinstance(arm, PromptArmConfig) else arm
        for name, arm in config.arms.items()
    }
    return config.model_copy(update={"data": data, "provider": changed, "arms": arms})


def named_in(text: str) -> str:
    """The label whose word a ticket contains."""
    return text.split()[0]


@contextmanager
def labelling_server(scores: Scores) -> Iterator[str]:
    """A server that answers {"label": ...} with log-probabilities; yields its base URL.

    Args:
        scores: the unnormalised log-probability of each label, from the last message.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            content = json.dumps(_completion(body, scores(_review(body)))).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}/v1"


def _review(body: Mapping[str, Any]) -> str:
    """The review in the last message, behind the prompt's own words."""
    content: str = body["messages"][-1]["content"]
    return content.removeprefix("Review:").strip()


def _completion(body: Mapping[str, Any], scores: Mapping[str, float]) -> dict[str, Any]:
    total = math.log(sum(math.exp(score) for score in scores.values()))
    ranked = sorted(scores, key=lambda label: -scores[label])
    listed = [_token(label, scores[label] - total) for label in ranked]
    tokens = [_token('{"label": "', 0.0), listed[0], _token('"}', 0.0)]
    logprobs = [{**token, "top_logprobs": listed[:TOP] if at == 1 else [token]} for at, token in enumerate(tokens)]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": json.dumps({"label": ranked[0]}), "refusal": None},
        "logprobs": {"content": logprobs if body.get("logprobs") else None, "refusal": None},
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return {
        "id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice],
        "usage": usage,
    }  # fmt: skip


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
