"""The pip command in a message works: it names where this installation came from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reviewtune import errors


class Installed:
    """What importlib.metadata knows about a package."""

    def __init__(self, noted: object) -> None:
        self._noted = noted

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._noted is None else json.dumps(self._noted)


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        ({"url": "file:///srv/my%20clone", "dir_info": {}}, "`pip install '/srv/my clone[app]'`"),
        ({"url": "file:///srv/reviewtune-1.whl", "archive_info": {}}, "`pip install '/srv/reviewtune-1.whl[app]'`"),
        (
            {"url": "https://example.org/r.git", "vcs_info": {"vcs": "git", "commit_id": "0"}},
            "`pip install 'reviewtune[app] @ git+https://example.org/r.git'`",
        ),
        (None, "`pip install '.[app]'` in a clone of reviewtune"),
        ({"damaged": 1}, "`pip install '.[app]'` in a clone of reviewtune"),
    ],
)
def test_the_command_names_the_source_of_this_installation(
    monkeypatch: pytest.MonkeyPatch, noted: object, command: str
) -> None:
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: iter([Installed(None), Installed(noted)]))
    assert errors.installing("app") == command


def test_the_folder_that_setuptools_leaves_in_a_clone_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """reviewtune.egg-info has no direct_url.json; pytest and `python -m` put the clone first on the path."""
    before = errors.installing("app")
    (tmp_path / "reviewtune.egg-info").mkdir()
    (tmp_path / "reviewtune.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: reviewtune\nVersion: 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert errors.installing("app") == before


def test_pip_accepts_the_command_of_this_installation() -> None:
    """--dry-run with the packages that are here: nothing is fetched and nothing is changed."""
    command = errors.installing("app", python=sys.executable).strip("`").replace("'", "").split(" install ")
    pip = [*command[0].split(), "install", "--dry-run", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, command[1]], capture_output=True, text=True, cwd=Path(sys.prefix))
    assert "Would install reviewtune" in done.stdout, done.stderr
