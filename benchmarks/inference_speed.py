"""Client throughput for many short reviews, next to scikit-llm's zero-shot classifier and promptfoo, on one server.

    python benchmarks/inference_speed.py                          # ours and the peers, then 10,000 reviews
    python benchmarks/inference_speed.py --peers '' --reviews 2000

The server (loopback.py) answers each request after 200 ms, so 64 concurrent requests reach at most 320 per second. A
peer is first installed into a temporary folder with pip or npm; --scikit-llm and --promptfoo name an existing
installation. Two times are printed: from the first request to the last answer, by the server's clock, and of the whole
command. Run it on an idle machine: on two cores the server already takes part of one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
LABELS = [f"label-{i}" for i in range(11)]

OURS = """
import json, sys, psutil
from dataclasses import replace
from pathlib import Path
from reviewtune.core.config.loading import load_params
from reviewtune.providers.inference import Request, CallPolicy, ask
url, n, concurrency, project = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
config = load_params(project / "params.yaml")
changes = {"kind": "compatible", "base_url": url, "api_key_env": None, "concurrency": concurrency, "priced_as": None}
settings = config.evaluation.model_copy(update={"mode": "online"})
terms = CallPolicy.of(config.provider.model_copy(update=changes), settings, config.prices)
memory = lambda: psutil.Process().memory_info().rss / 2**20
def run(n, seed):
    texts = (f"review {i}: label-{i % 11} and it is not the first time that this happens to me" for i in range(n))
    chats = [[{"role": "system", "content": "Name the issue."}, {"role": "user", "content": text}] for text in texts]
    asked = ask(terms, Request("loopback", None, 0, 64, seed), chats, title="reviews")
    assert [json.loads(a.text)["label"] for a in asked.answers] == [f"label-{i % 11}" for i in range(n)]
    return asked
marks = []
if n > 2000:
    run(1000, 2)
    marks.append(memory())
asked = run(n, 1)
marks.append(memory())
again = run(n, 1)
print(json.dumps({"memory": marks, "requests": asked.requests, "seconds": asked.seconds, "again": again.requests}))
"""

SCIKIT_LLM = """
import sys
from skllm.config import SKLLMConfig
from skllm.models.gpt.classification.zero_shot import ZeroShotGPTClassifier
url, n, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SKLLMConfig.set_gpt_url(url)
SKLLMConfig.set_openai_key("any")
classifier = ZeroShotGPTClassifier(model="custom_url::loopback")
classifier.fit(None, [f"label-{i}" for i in range(11)])
texts = [f"review {i}: label-{i % 11} and it is not the first time that this happens to me" for i in range(n)]
assert len(classifier.predict(texts, num_workers=concurrency)) == n
"""


class Result(NamedTuple):
    name: str
    reviews: int
    served: int
    seconds: float  # between the first request and the last answer
    command_seconds: float
    output: str


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as temporary:
        results = [
            _measure("reviewtune", options.peer_reviews, options, _ours(options)),
            *(
                _measure(peer, options.peer_reviews, options, _peer(peer, options, Path(temporary)))
                for peer in options.peers
            ),
        ]
        _show(results, options)
        if options.reviews:
            _show_large(_measure("reviewtune", options.reviews, options, _ours(options)), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=10_000)
    parser.add_argument("--peer-reviews", type=int, default=500)
    parser.add_argument(
        "--peers", type=lambda text: text.split(",") if text else [], default=["scikit-llm", "promptfoo"]
    )
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--delay", type=float, default=0.2)
    parser.add_argument("--scikit-llm", type=Path, help="the Python of an environment with scikit-llm")
    parser.add_argument("--promptfoo", type=Path, help="promptfoo's executable, such as node_modules/.bin/promptfoo")
    return parser.parse_args()


def _measure(name: str, reviews: int, options: argparse.Namespace, command: Sequence[str]) -> Result:
    """Run a command against its own server; `URL` and `N` in it are filled in."""
    with _server(options.delay) as url, tempfile.TemporaryDirectory() as home:
        filled = [
            part.replace("URL", url) if part == "URL" else str(reviews) if part == "N" else part for part in command
        ]
        environment = os.environ | {
            "REVIEWTUNE_HOME": home,
            "OPENAI_API_KEY": "any",
            "LOOPBACK": url,
            "REVIEWS": str(reviews),
        }
        started = time.perf_counter()
        done = subprocess.run(filled, env=environment, capture_output=True, text=True, cwd=home)
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"{name} failed ({done.returncode}): {done.stderr[-2000:]}\n{done.stdout[-2000:]}")
        with urllib.request.urlopen(f"{url}/stats") as answer:
            stats = json.load(answer)
    return Result(name, reviews, stats["served"], stats["seconds"], seconds, done.stdout)


@contextmanager
def _server(delay: float) -> Iterator[str]:
    command = [sys.executable, str(HERE / "loopback.py"), "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _ours(options: argparse.Namespace) -> list[str]:
    return [sys.executable, "-c", OURS, "URL", "N", str(options.concurrency), str(HERE.parent)]


def _peer(name: str, options: argparse.Namespace, folder: Path) -> list[str]:
    if name == "scikit-llm":
        python = options.scikit_llm or _install_scikit_llm(folder / "scikit-llm")
        return [str(python.absolute()), "-c", SCIKIT_LLM, "URL", "N", str(options.concurrency)]
    if name == "promptfoo":
        program = options.promptfoo or _install_promptfoo(folder / "promptfoo")
        script = folder / "promptfoo.py"
        script.write_text(PROMPTFOO)
        return [sys.executable, str(script), "URL", "N", str(options.concurrency), str(program.absolute())]
    sys.exit(f"unknown peer {name!r}: scikit-llm and promptfoo are known")


PROMPTFOO = """
import json, os, subprocess, sys
url, n, concurrency, program = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
texts = [f"review {i}: label-{i % 11} and it is not the first time that this happens to me" for i in range(n)]
config = {
    "providers": [{"id": "openai:chat:loopback", "config": {"apiBaseUrl": url, "temperature": 0, "max_tokens": 64}}],
    "prompts": ["Name the issue. {{text}}"],
    "tests": [{"vars": {"text": text}} for text in texts],
}
with open("config.json", "w") as file:
    json.dump(config, file)
quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1", "PROMPTFOO_CONFIG_DIR": os.getcwd()}
command = [program, "eval", "-c", "config.json", "-j", concurrency, "--no-cache", "--no-table", "--no-progress-bar"]
sys.exit(subprocess.run(command, env=os.environ | quiet).returncode)
"""


def _install_scikit_llm(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "scikit-llm"], check=True)
    return folder / "bin" / "python"


def _install_promptfoo(folder: Path) -> Path:
    if shutil.which("npm") is None:
        sys.exit("promptfoo needs npm; install Node.js or leave it out with --peers scikit-llm")
    folder.mkdir(parents=True)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "promptfoo"], cwd=folder, check=True)
    return folder / "node_modules" / ".bin" / "promptfoo"


def _show(results: Sequence[Result], options: argparse.Namespace) -> None:
    ours = results[0]
    print(f"{'':12} {'reviews':>8} {'requests':>9} {'reviews/s':>10} {'ours is':>8} {'whole command':>14}")
    for result in results:
        rate, ratio = result.reviews / result.seconds, result.seconds / ours.seconds
        print(
            f"{result.name:12} {result.reviews:8} {result.served:9} {rate:10.1f} {ratio:7.1f}x "
            f"{result.command_seconds:12.1f} s"
        )


def _show_large(result: Result, options: argparse.Namespace) -> None:
    report = json.loads(result.output.splitlines()[-1])
    ideal, rate = options.concurrency / options.delay, result.reviews / report["seconds"]
    print(f"{result.reviews:,} reviews: {rate:.1f} a second, {rate / ideal:.3f} of the ideal {ideal:.0f}")
    print(f"asked again: {report['again']} requests")
    if len(report["memory"]) == 2:
        small, large = report["memory"]
        print(f"memory: {small:.0f} MiB after 1,000 reviews, {large:.0f} MiB after {result.reviews:,} more")


if __name__ == "__main__":
    main()
