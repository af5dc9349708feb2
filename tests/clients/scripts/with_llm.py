"""The command `llm`: its default model, and a model of extra-openai-models.yaml with a schema and tools."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared import API_KEY, BASE_URL, INSTRUCTIONS, MODEL, REVIEWS, SCHEMA, main, text

folder = Path(tempfile.mkdtemp())
ENTRY = {
    "model_id": "reviews",
    "model_name": MODEL,
    "api_base": BASE_URL,
    "api_key_name": "local",
    "supports_schema": True,
    "supports_tools": True,
}
(folder / "extra-openai-models.yaml").write_text(json.dumps([ENTRY]))  # JSON is YAML
(folder / "keys.json").write_text(json.dumps({"local": API_KEY}))


def llm(*options: str) -> str:
    environment = {**os.environ, "LLM_USER_PATH": str(folder)}
    done = subprocess.run([sys.executable, "-m", "llm", *options], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    return done.stdout


def default_model() -> Iterator[str]:
    for review in REVIEWS:
        yield text(llm("-s", INSTRUCTIONS, "-o", "max_tokens", "16", review))


def extra_model() -> Iterator[str]:
    for review in REVIEWS:
        yield text(llm("-m", "reviews", "-s", INSTRUCTIONS, "-o", "max_tokens", "16", review))


def schema() -> Iterator[str]:
    for review in REVIEWS:
        answer = llm("-m", "reviews", "-s", INSTRUCTIONS, "--schema", json.dumps(SCHEMA), review)
        yield json.loads(answer)["label"]


main({"default model": default_model, "extra model": extra_model, "--schema": schema})
