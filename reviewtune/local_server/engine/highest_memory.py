"""The highest memory of a process. Without torch, so that programs that do not need it can ask too."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")  # of this process, on Linux


def highest_memory() -> int:
    """The highest memory of this process so far, in bytes.

    On Linux `getrusage` keeps its value when a program starts another one, so it may be that of the parent.
    """
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # not Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
