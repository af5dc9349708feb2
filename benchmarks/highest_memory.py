"""The highest memory of a process."""

import resource
import sys
from pathlib import Path


def highest_memory() -> int:
    """The highest memory of this process so far, in bytes.

    On Linux `getrusage` keeps its value when a program starts another one, so it may be that of the parent.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # not Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
