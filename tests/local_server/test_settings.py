"""Process-wide settings of the server."""

import subprocess
import sys

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
