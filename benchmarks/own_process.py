"""A function in a process of its own."""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any


def alone(work: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what the function returns
    """Call a function in a new process, with the thread settings of this one.

    Raises:
        SystemExit: the process was killed.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            name = Path(sys.argv[0]).name
            sys.exit(f"{name}: the process of {work.__name__} was killed; the kernel does that if memory runs out")
