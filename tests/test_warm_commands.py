"""Commands in a process that has imported libraries already behave as those of an ordinary Python."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support import warm_commands
from tests.support.serving import wait_for

pytestmark = pytest.mark.skipif(not warm_commands.LINUX, reason="only on Linux are there such processes")
CODES = {
    "ends well": "import os, sys; print(os.getcwd(), sys.argv[1:], __name__, os.environ['MARK'], flush=True)",
    "exit status": "import sys; print('so far', file=sys.stderr); sys.exit(3)",
    "message": "import sys; sys.exit('no')",
    "signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "without end of line": "import sys; sys.stdout.write('half')",
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_status_and_output_are_those_of_python(code: str, tmp_path: Path) -> None:
    words, environment = ["-c", code, "a", "b c"], {**os.environ, "MARK": "1"}
    usual = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    status, shown = warm_commands.python(words, tmp_path, environment, kind="none")
    assert (status, shown.encode()) == (usual.returncode, usual.stdout)


def test_code_of_the_given_folder_is_run(tmp_path: Path) -> None:
    (tmp_path / "reviewtune.py").write_text("print('of this folder', __name__)")
    for words in (["-m", "reviewtune"], ["-c", "import reviewtune"]):
        status, shown = warm_commands.python(words, tmp_path, {**os.environ, "PYTHONPATH": ""}, kind="none")
        assert (status, shown.startswith("of this folder")) == (0, True), shown


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_ends_a_stage_ends_its_process(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "long.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    environment = warm_commands.with_warm_stages(os.environ, kind="none")
    command = subprocess.Popen(
        ["sh", "-c", "exec python stages/long.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    process = psutil.Process(int(command.stdout.readline()))
    assert process.pid != command.pid
    command.send_signal(number)
    command.stdout.close()
    assert command.wait(60) == -number
    wait_for(lambda: not process.is_running())


def test_other_words_are_given_to_python() -> None:
    environment = warm_commands.with_warm_stages(os.environ, kind="none")
    shown = subprocess.check_output(["sh", "-c", "python -c 'import sys; print(sys.executable)'"], env=environment)
    assert shown.decode().strip() == sys.executable
