"""Kills the trainers of a test, like `kill -9`, at a planned file operation. Python imports it by its name.

CRASH_PLAN names a JSON file, a list of [part of a path, n]: each trainer takes the first entry and dies just before it
changes such a path for the n-th time. So every crash is at the same place in the program, however slow the machine is.

LONG_TRAINING sets the seconds after which a trainer calls its training long.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = ("open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _arm(plan: Path) -> None:
    crashes = json.loads(plan.read_text())
    if not crashes:
        return
    part, left = crashes[0]
    plan.write_text(json.dumps(crashes[1:]))

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in CHANGES or (event == "open" and not int(args[2] or 0) & WRITING):
            return
        if any(part in str(arg) for arg in args[:2]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if "reviewtune.local_server.fine_tuning.trainer" in sys.orig_argv:
    if "CRASH_PLAN" in os.environ:
        _arm(Path(os.environ["CRASH_PLAN"]))
    if "LONG_TRAINING" in os.environ:
        from reviewtune.local_server.fine_tuning import duration

        duration.LONG = float(os.environ["LONG_TRAINING"])
