"""What Hydra is about to run: the jobs of a grid, and what makes a search another one."""

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


def search(*words: str, **sweeper: Any) -> str:
    settings = {"params": {"training.n_epochs": "range(1,6)"}, "direction": "maximize", "sampler": {"seed": 13}}
    return plan(*words, kind="Optuna", n_trials=3, **settings | sweeper).space


def test_a_grid_may_name_all_files_of_a_group() -> None:
    assert ["prompt=short", "training.seed=1"] in plan("prompt=glob(*)", "training.seed=1,2").combinations


def test_a_search_of_other_ranges_sampler_or_direction_is_another_search() -> None:
    spaces = {
        search(),
        search("training.n_epochs=range(1,9)"),
        search("prompt=short,detailed"),
        search("prompt=short,detailed,other"),
        search(sampler={"seed": 14}),
        search(direction="minimize"),
    }
    assert len(spaces) == 6


def test_the_same_search_written_otherwise_continues() -> None:
    assert search("training.n_epochs=range(1,6)") == search()
