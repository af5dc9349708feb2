"""Process-wide settings of the server."""

import os
import subprocess
import sys

import pytest

from reviewtune.local_server.settings import COMPILED_PRODUCTS, prepare_torch

PROGRAM = """
import gc
from reviewtune.local_server.settings import importing

def during(package):
    try:
        with importing(package):
            __import__(package)
            states.append(gc.isenabled())
            raise RuntimeError
    except RuntimeError:
        states.append(gc.isenabled())

states = []
before = gc.get_freeze_count()
during("xml.dom.minidom")
frozen = gc.get_freeze_count()
during("xml.dom.minidom")
print(states, frozen > before, gc.get_freeze_count() == frozen)
"""


def test_garbage_is_not_collected_during_the_first_import_of_a_package_only() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[False, True, True, True] True True"


def test_threads_wait_actively_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the server is several times slower as soon as another program uses a core."""
    for policy, count, expected in ((None, None, "1000"), (None, "7", "7"), ("active", None, None)):
        for name, value in (("OMP_WAIT_POLICY", policy), ("GOMP_SPINCOUNT", count)):
            monkeypatch.delenv(name, raising=False)
            if value:
                monkeypatch.setenv(name, value)
        prepare_torch()
        assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_few_matrix_products_are_kept_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the default of 1,024 a long answer in bf16 takes a gigabyte (test_hostile_clients.py looks at that)."""
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    prepare_torch()
    assert {os.environ[name] for name in COMPILED_PRODUCTS} == {"7"}
    for name in COMPILED_PRODUCTS:
        monkeypatch.delenv(name)
    prepare_torch()
    assert {os.environ[name] for name in COMPILED_PRODUCTS} == {"64"}


@pytest.mark.parametrize("module", ["reviewtune.local_server.__main__", "reviewtune.local_server.fine_tuning.trainer"])
def test_server_and_trainer_decide_it_before_torch_is_imported(module: str) -> None:
    """OpenMP reads the variable once."""
    program = f"import sys, {module} as m; print('torch' in sys.modules, 'prepare_torch' in dir(m))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "True"]
