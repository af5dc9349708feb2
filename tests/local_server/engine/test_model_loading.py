"""Loading a model changes how its process allocates memory."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import psutil, torch
from reviewtune.local_server.engine import model_loading
process = psutil.Process()
if {tuned}:
    model_loading._tune_cpu()
before = process.memory_info().rss
tensor = torch.ones(64 << 20)  # 256 MB
del tensor
print(process.memory_info().rss - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
@pytest.mark.parametrize("tuned", [True, False])
def test_freed_memory_is_kept_for_the_next_tensor(tuned: bool) -> None:
    """`mallopt` is called through ctypes; without it, glibc gives large blocks back to the system at once."""
    program = PROGRAM.format(tuned=tuned)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    kept = int(ended.stdout) > 200 << 20
    assert kept == tuned
