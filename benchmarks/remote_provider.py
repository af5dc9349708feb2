"""A stand-in for a hosted provider on loopback: files, fine-tuning jobs of a fixed length, immediate chat answers.

    python benchmarks/remote_provider.py --job-seconds 2          # prints its base URL, runs until it is stopped

It counts its requests at /v1/stats, jobs by key and questions by content, so that repeated work is
noticed. An answer is one of the labels that the request allows. Like loopback.py it uses little CPU itself.
"""

import argparse
import asyncio
import hashlib
import json
import re
import time
from collections import Counter
from typing import Any

from loopback import Loopback, completion

FILE_NAME = re.compile(rb'filename="([^"]+)"')


class Provider(Loopback):
    """One connection; all connections share one account."""

    job_seconds = 2.0
    files: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - shared by all connections on purpose, as are the next three
    jobs: dict[str, dict[str, Any]] = {}  # noqa: RUF012
    keys: Counter[str] = Counter()  # noqa: RUF012
    questions: Counter[str] = Counter()  # noqa: RUF012

    def take(self, path: bytes, body: bytes) -> None:
        address = path.decode().removeprefix("/v1").partition("?")[0]
        match address.strip("/").split("/"):
            case ["stats"]:
                self.send(statistics())
            case ["models"]:
                self.send(page([]))
            case ["chat", "completions"]:
                self.send(chat(json.loads(body)))
            case ["files"]:
                self.send(upload(body) if body else page(list(self.files.values())))
            case ["files", name]:
                self.send(self.files[name])
            case ["fine_tuning", "jobs"]:
                self.send(create(json.loads(body)) if body else page([state(job) for job in self.jobs.values()]))
            case ["fine_tuning", "jobs", name]:
                self.send(state(self.jobs[name]))
            case ["fine_tuning", "jobs", name, _]:
                self.send(page([]))
            case _:
                error = {"message": f"unknown path {address}", "type": "invalid_request_error"}
                self.send({"error": error}, "404 Not Found")


def page(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": items, "has_more": False}


def upload(body: bytes) -> dict[str, Any]:
    match = FILE_NAME.search(body)
    assert match
    content = body.split(b"\r\n\r\n")
    longest = max(len(part.rpartition(b"\r\n--")[0]) for part in content)
    name = f"file-{len(Provider.files)}"
    Provider.files[name] = {
        "id": name, "object": "file", "bytes": longest, "created_at": int(time.time()), "filename": match[1].decode(),
        "purpose": "fine-tune", "status": "processed",
    }  # fmt: skip
    return Provider.files[name]


def create(order: dict[str, Any]) -> dict[str, Any]:
    key = order["metadata"]["run_key"]
    Provider.keys[key] += 1
    name = f"ftjob-{len(Provider.jobs)}"
    Provider.jobs[name] = {"order": order, "id": name, "began": time.time()}
    return state(Provider.jobs[name])


def state(job: dict[str, Any]) -> dict[str, Any]:
    order, over = job["order"], time.time() - job["began"] >= Provider.job_seconds
    return {
        "id": job["id"], "object": "fine_tuning.job", "created_at": int(job["began"]), "model": order["model"],
        "status": "succeeded" if over else "running", "finished_at": int(time.time()) if over else None,
        "fine_tuned_model": f"ft:{order['model']}:{job['id']}" if over else None, "organization_id": "org",
        "hyperparameters": order["method"]["supervised"]["hyperparameters"], "result_files": [], "error": None,
        "training_file": order["training_file"], "validation_file": order["validation_file"], "seed": order["seed"],
        "trained_tokens": 1000 if over else None, "metadata": order["metadata"],
    }  # fmt: skip


def chat(request: dict[str, Any]) -> dict[str, Any]:
    asked = hashlib.sha256(json.dumps([request["model"], request["messages"]]).encode()).hexdigest()
    Provider.questions[asked] += 1
    schema = json.dumps(request["response_format"])
    labels = json.loads(re.findall(r'"enum": (\[[^\]]*\])', schema)[0])
    return completion(labels[int(asked, 16) % len(labels)])


def statistics() -> dict[str, Any]:
    return {
        "jobs": len(Provider.jobs),
        "jobs_of_one_key": max(Provider.keys.values(), default=0),
        "questions": len(Provider.questions),
        "asked": sum(Provider.questions.values()),
        "asked_of_one_question": max(Provider.questions.values(), default=0),
        "began": sorted(job["began"] for job in Provider.jobs.values()),
    }


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job-seconds", type=float, default=2.0)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    Provider.job_seconds = options.job_seconds
    asyncio.run(serve(options.port))


if __name__ == "__main__":
    main()
