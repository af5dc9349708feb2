"""Compiles schemas in a process of its own that may end: python -m ...compile_trial, with schemas as JSON in its input.

A short schema can describe a grammar whose compilation takes minutes or gigabytes, and nothing can interrupt a
compilation in a thread: it would stop all answers of all models.
"""

import json
import os
import signal as signals
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec

from reviewtune.core.user_dirs import with_own_modules
from reviewtune.local_server.engine.types import GenerationRequest, UnsupportedSchema

CPU_SECONDS = 3  # of the process; its start takes 0.3
PATIENCE = 60.0  # seconds, on a busy machine
TRIALS = 3  # of a process that somebody ends
MEMORY = 2**30  # bytes of the process
HARMLESS = 4000  # characters of a schema without the keywords below; it compiles in milliseconds
COSTLY = ("allOf", "multipleOf", "patternProperties", "dependentSchemas")  # may multiply what others describe
REFERENCES = 16
REASON = "it is too complex, compiling it would take too long; use fewer or smaller parts"
INTERRUPTED = "it could not be compiled now, because the machine is busy or the attempt was interrupted; send it again"
MODULE = __name__
KILLED = tuple(-signal for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP") if (signal := getattr(signals, name, 0)))
"""Exit statuses of a process that somebody else ended; its own limits end it in other ways."""


def needs_trial(request: GenerationRequest) -> bool:
    """Whether a request has a schema that may take long to compile."""
    return any(map(_is_doubtful, _schemas(request).values()))


def try_to_compile(request: GenerationRequest) -> None:
    """Refuse a request whose schemas take too long to compile. May take a few seconds itself.

    Raises:
        UnsupportedSchema: they cannot be compiled in time.
    """
    schemas = _schemas(request)
    doubtful = [name for name, schema in schemas.items() if _is_doubtful(schema)]
    if doubtful and not _compiles(f"[{', '.join(schemas.values())}]"):
        raise UnsupportedSchema(REASON, doubtful[0])


def _schemas(request: GenerationRequest) -> Mapping[str | None, str]:
    """The schemas as JSON text, by the name of their function; None for the one of the answer."""
    functions = request.tools.functions if request.tools else ()
    schemas: dict[str | None, str] = {function.name: function.parameters for function in functions}
    return schemas if request.schema is None else {None: json.dumps(request.schema), **schemas}


def _is_doubtful(schema: str) -> bool:
    is_costly = any(f'"{keyword}"' in schema for keyword in COSTLY)
    return is_costly or len(schema) > HARMLESS or schema.count('"$ref"') > REFERENCES


@lru_cache(256)
def _compiles(schemas: str) -> bool:
    """Whether schemas are compiled in time. Those with another fault are: the model's thread says what it is.

    Raises:
        UnsupportedSchema: nobody knows, because the process was killed or got no CPU. Exceptions are not cached.
    """
    for _ in range(TRIALS):
        try:
            status = _trial(schemas)
        except subprocess.TimeoutExpired as error:
            if find_spec("resource") is None:  # without limits of its own, only this ends the process
                return False
            raise UnsupportedSchema(INTERRUPTED) from error
        if status not in KILLED:
            return status == 0
    raise UnsupportedSchema(INTERRUPTED)


def _trial(schemas: str) -> int:
    """The exit status of a process that compiles them."""
    return subprocess.run(
        [sys.executable, "-m", MODULE],
        input=schemas.encode(),
        stderr=subprocess.DEVNULL,
        env=with_own_modules(os.environ),
        timeout=PATIENCE,
        check=False,
    ).returncode


def main() -> None:
    """Compile what standard input holds. The system ends a process that exceeds its limits."""
    from llguidance import LLTokenizer

    from reviewtune.local_server.engine.generation.grammars import bounded_grammar

    with suppress(ImportError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))  # at the first, SIGXCPU
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    vocabulary = LLTokenizer("byte")
    for schema in json.load(sys.stdin):
        with suppress(UnsupportedSchema, RecursionError):
            bounded_grammar(schema, vocabulary)


if __name__ == "__main__":
    main()
