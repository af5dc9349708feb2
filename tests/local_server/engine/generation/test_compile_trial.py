"""Schemas that may take long are tried in a process; only what its own limits ended is refused for good."""

import pytest

from reviewtune.local_server.engine.generation import compile_trial
from reviewtune.local_server.engine.types import GenerationRequest, UnsupportedSchema

COSTLY = {"type": "object", "properties": {"n": {"type": "number", "multipleOf": 0.25}}, "required": ["n"]}


def test_a_trial_that_was_interrupted_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that was busy for a moment: the same schema is accepted later."""
    request = GenerationRequest(schema=COSTLY)
    with monkeypatch.context() as busy:
        busy.setattr(compile_trial, "PATIENCE", 0.01)
        with pytest.raises(UnsupportedSchema, match=r"the machine is busy or .* interrupted; send it again"):
            compile_trial.try_to_compile(request)
    compile_trial.try_to_compile(request)
