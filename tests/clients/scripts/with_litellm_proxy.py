"""LiteLLM's proxy in front of the server: the ways of the openai package, through it."""

import json
import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared import API_KEY, BASE_URL, MODEL

KEY = "sk-6b1f0c93d7e84a52b0a9c7d41e35f286"  # the proxy refuses to start without a long one
SECONDS = 120  # for the start


@contextmanager
def proxy() -> Iterator[str]:
    """A proxy with one model, and its base URL."""
    settings = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": API_KEY}
    config = {"model_list": [{"model_name": MODEL, "litellm_params": settings}]}
    Path("config.yaml").write_text(json.dumps(config))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    command = [str(Path(sys.executable).with_name("litellm")), *words]
    process = subprocess.Popen(command, env=os.environ | {"LITELLM_MASTER_KEY": KEY}, stdout=sys.stderr)
    try:
        wait_until_ready(f"http://{address}/health/liveliness")
        yield f"http://{address}/v1"
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(url: str) -> None:
    for _ in range(SECONDS):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(1)
        else:
            return
    raise TimeoutError(f"the proxy did not start within {SECONDS} s")


with proxy() as base_url:
    os.environ |= {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY}
    runpy.run_module("with_openai")
