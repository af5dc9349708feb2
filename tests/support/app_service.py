"""A real `reviewtune serve-app` process, and a provider on loopback that answers as the texts of the reviews say."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from reviewtune.core.config.config import Config
from tests.support.odd_server import CHAT, Asked, OddServer, Reply, completion, odd_server
from tests.support.served import provided_by, served_folder
from tests.support.serving import wait_for

KEY = "s3cret-of-the-tests"


class GatedProvider:
    """Answers with the label that the review names; a review with "held" waits until `gate` is set.

    A review with "odd" gets an answer without a label, one with "outage" status 500.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.gate, self.labels, self.held = threading.Event(), labels, 0

    def answer(self, asked: Asked) -> object:
        review = asked.review
        if "held" in review:
            self.held += 1
            self.gate.wait(30)
        if "outage" in review:
            return Reply(b'{"error": {"message": "out of order"}}', status=500)
        named = re.search("|".join(map(re.escape, self.labels)), review)
        label = named[0] if named and "odd" not in review else "no label at all"
        return completion(json.dumps({"label": label}))


@contextmanager
def gated_provider(labels: tuple[str, ...]) -> Iterator[tuple[GatedProvider, OddServer]]:
    provider = GatedProvider(labels)
    with odd_server({CHAT: provider.answer}) as server:
        try:
            yield provider, server
        finally:
            provider.gate.set()


def app_folder(folder: Path, config: Config, base_url: str, **provider: object) -> Path:
    """The folder of a served model that asks this provider for labels without confidence."""
    settings = {"base_model": "tiny", "max_retries": 0, "label_scores": "none", "concurrency": 64, **provider}
    changed = provided_by(config, base_url, **settings)
    return served_folder(folder, changed, "tiny", calibration=None, threshold=None)


class AppProcess:
    """A running service; its log is in a file next to the folder.

    Args:
        folder: of the served model, or a project whose champion answers.
        options: of the command.
        key: that requests must carry.
    """

    def __init__(self, folder: Path, *options: str, key: str | None = None) -> None:
        self.log = folder.parent / f"{folder.name}-{os.urandom(4).hex()}.log"
        environment = {name: value for name, value in os.environ.items() if name != "REVIEWTUNE_APP_KEY"}
        environment |= {"REVIEWTUNE_HOME": str(folder.parent / "home")} | ({"REVIEWTUNE_APP_KEY": key} if key else {})
        command = [sys.executable, "-m", "reviewtune", "serve-app", "--port", "0", *options]
        project = folder if (folder / "params.yaml").exists() else None
        command += [] if project else ["--served-model", str(folder)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment, cwd=project)
        self.address = str(wait_for(self._address))
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.client = httpx2.Client(base_url=self.address, headers=headers, timeout=30, trust_env=False)

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        return next((event["address"] for event in self.events("serving")), None)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log with this event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.client.get("/readyz").status_code == 200)

    def classify(self, *texts: str) -> list[dict[str, Any]]:
        """The results of one request."""
        response = self.client.post("/classify", json={"texts": texts})
        assert response.status_code == 200, response.text
        results: list[dict[str, Any]] = response.json()["results"]
        return results

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """The samples of /metrics, by name and labels, as Prometheus' own parser reads them."""
        from prometheus_client.parser import text_string_to_metric_families as parse

        page = self.client.get("/metrics").text
        found = [sample for family in parse(page) for sample in family.samples]
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}

    def stop(self) -> int:
        """Send SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@contextmanager
def app_process(folder: Path, *options: str, key: str | None = None) -> Iterator[AppProcess]:
    app = AppProcess(folder, *options, key=key)
    try:
        app.wait_until_ready()
        yield app
    finally:
        app.client.close()
        if app.process.poll() is None:
            app.process.kill()
            app.process.wait()
