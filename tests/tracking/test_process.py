"""Whether a process that a run names is still alive."""

import os
import time

import psutil
import pytest

from reviewtune.tracking.process import is_running, machine, may_run, this_process


@pytest.mark.parametrize("seconds", [-2, 0, 2])
def test_a_clock_that_was_set_does_not_end_a_process(seconds: int) -> None:
    """The system derives the start time from its clock, which time synchronisation may change meanwhile."""
    started = psutil.Process().create_time() + seconds
    assert is_running(f"{machine()}:{os.getpid()}:{started:.0f}")


@pytest.mark.skipif(not psutil.LINUX, reason="other systems note the start of a process once")
def test_a_clock_that_was_set_by_a_day_does_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux adds the start of the machine, as the clock has it now, to the time since then."""
    before = this_process()
    boot, day = psutil.boot_time(), 86_400
    own = psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + day)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: own(process) + day)
    assert is_running(before)


def test_a_process_id_that_was_used_before_is_another_process() -> None:
    assert is_running(this_process())
    assert not is_running(f"{machine()}:{os.getpid()}:{psutil.Process().create_time() - 3600:.0f}")
    assert not is_running(f"elsewhere:{os.getpid()}:{psutil.Process().create_time():.0f}")


def test_a_process_of_another_machine_may_run_for_a_week() -> None:
    """A run that was killed before a restart, or in a container that is gone, would otherwise stay open for ever."""
    old, new = time.time() - 8 * 24 * 3600, time.time() - 3600
    assert [may_run(f"elsewhere:4f2a91bc-f0000000:17:{start:.0f}") for start in (old, new)] == [False, True]
    assert may_run("")
