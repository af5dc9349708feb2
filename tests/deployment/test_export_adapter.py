"""An exported adapter: the program in its README runs."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_models import real
from tests.support.exports import account, hyperparameters, model, project, run_python_of, save, settings
from tests.support.tiny_qwen import write_tiny_qwen

pytestmark = pytest.mark.model
__all__ = ["account", "hyperparameters", "model", "project", "save", "settings"]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is trained with adapters."""
    return write_tiny_qwen(tmp_path_factory.mktemp("bases") / "tiny-qwen", real("smollm2-135m-instruct"))


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> str:
    return str(tiny_model)


def test_the_program_in_the_readme_answers_with_the_adapter(save: Any, model: str, tmp_path: Path) -> None:
    assert save(model, adapter=True).kind == "adapter"
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert run_python_of(tmp_path / "out")
