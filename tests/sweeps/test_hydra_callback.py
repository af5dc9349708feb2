"""What Hydra is about to run: the jobs of a grid."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from reviewtune.sweeps.hydra_callback import GRID, Plan, plan_of


@pytest.fixture(autouse=True)
def _hydra(project: Path) -> Iterator[None]:
    with initialize_config_dir(str(project / "conf"), version_base=None):
        yield


def plan(*words: str, kind: str = GRID, **sweeper: Any) -> Plan:
    hydra = {"sweeper": {"_target_": kind, "params": None, **sweeper}, "overrides": {"task": list(words)}}
    return plan_of(OmegaConf.create({"hydra": hydra}))


def test_a_grid_may_name_all_files_of_a_group() -> None:
    assert ["prompt=short", "training.seed=1"] in plan("prompt=glob(*)", "training.seed=1,2").combinations
