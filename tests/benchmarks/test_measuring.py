"""What the benchmarks measure is that of the process they name, and no option of theirs is ignored."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
BENCHMARKS = PROJECT / "benchmarks"


def run(*words: str | Path, cwd: Path = PROJECT, **environment: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(PROJECT), str(BENCHMARKS)])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True, check=False)


OWN = "from engine_runs import peak_gb; print(int(peak_gb() * 1e9))"
ENGINE = """
import torch
from reviewtune.local_server.engine.training.memory import peak_memory
print(peak_memory(torch.device("cpu")))
"""


@pytest.mark.parametrize("which", [OWN, ENGINE], ids=["benchmarks", "engine"])
def test_the_highest_memory_is_not_that_of_the_parent(which: str) -> None:
    program = f"import subprocess, sys; large = b'1' * 10**9; subprocess.run([sys.executable, '-c', {which!r}])"
    done = run(sys.executable, "-c", program)
    assert 10**6 < int(done.stdout) < 9 * 10**8, done.stderr


def test_a_worker_that_is_killed_ends_the_benchmark_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    kill = f"os.kill(os.getpid(), {signal.SIGKILL:d})"
    main = "if __name__ == '__main__': alone(work)"
    script.write_text(f"import os\nfrom own_process import alone\ndef work(): {kill}\n{main}")
    done = run(sys.executable, script)
    assert done.stderr == "mine.py: the process of work was killed; the kernel does that if memory runs out\n"
    assert done.returncode == 1


OPTIONS = """
import contextlib, sys, accuracy
for words in sys.argv[1:]:
    sys.argv[1:] = words.split()
    with contextlib.suppress(SystemExit):
        accuracy._options()
        print(words, "was accepted")
"""
FILES = "--train a.csv --test b.csv"
REFUSED = {
    "--test b.csv": "--test, --labels and --per-label are for the files of --train, which is missing",
    "--labels 2": "--test, --labels and --per-label are for the files of --train, which is missing",
    "--per-label 2": "--test, --labels and --per-label are for the files of --train, which is missing",
    f"{FILES} --data reviews_ko": "--data and --add do not go with --train, which names the reviews",
    f"{FILES} --add reviews_ko": "--data and --add do not go with --train, which names the reviews",
    "--keep .": "--keep .: there is a model already; name another folder, or remove this one",
}


def test_accuracy_ignores_no_option(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    accepted = f"{FILES} --labels 2 --per-label 4 --keep new"
    done = run(sys.executable, "-c", OPTIONS, *REFUSED, accepted, cwd=tmp_path)
    assert done.stdout == f"{accepted} was accepted\n", done.stderr
    said = [line.partition("error: ")[2] for line in done.stderr.splitlines() if "error: " in line]
    assert said == list(REFUSED.values())


def test_the_gpu_script_leaves_the_users_folder_alone(tmp_path: Path) -> None:
    """With a program that does nothing in place of Python; --out is relative to where it is called."""
    mine = tmp_path / "out" / "tmp" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep")
    done = run("bash", BENCHMARKS / "gpu.sh", "--quick", "--out", "out", cwd=tmp_path, PYTHON="true")
    assert f"logs: {tmp_path / 'out'}\n" in done.stdout, done.stderr
    assert mine.read_text() == "keep"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["environment.log", "tmp"]


CPU_TIME = """
import asyncio, types, app_serving as app
seconds = iter(range(100))
process = types.SimpleNamespace(cpu_times=lambda: types.SimpleNamespace(user=next(seconds), system=0))
options = types.SimpleNamespace(clients=[16], seconds=0.5, rounds=1)
with app._loopback(1.0) as address:
    target = app.Target(f"{address}/chat/completions", [b'{"messages": [{"role": "user", "content": "label-1"}]}'])
    asyncio.run(app._compare(target, target, process, options))
"""


def test_cpu_time_is_divided_by_all_answers_of_the_round() -> None:
    """16 clients get an answer each after the end of the round, and the second that it took is shared by them."""
    done = run(sys.executable, "-c", CPU_TIME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[4] == "62.50"


def test_the_report_of_the_monitor_survives_an_edit() -> None:
    """Its rows belong to a number that is raised when verdicts change, not to a hash of sources."""
    done = run(sys.executable, BENCHMARKS / "monitoring.py", "--report")
    assert done.returncode == 0, done.stderr
    assert "| nothing | 200 | 0.015 (0.005 to 0.043) | 0.050" in done.stdout


def test_peers_are_trained_on_the_engines_device_in_its_precision() -> None:
    program = (
        "import torch, training_peers as peers\n"
        "from reviewtune.local_server.engine.model_loading import device, fast_precision\n"
        "torch.cpu.get_capabilities = dict\n"  # a CPU without bf16 units
        "assert device().type != 'cpu' or peers.speed() == {'bf16': False, 'use_cpu': True}, peers.speed()"
    )
    done = run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
