"""Registered models without a real model: folders with one file, promoted and found again."""

import os
from pathlib import Path

import pandas as pd

from reviewtune.core.config.config import Config, TrackingConfig
from reviewtune.tracking import aliases, registry
from tests.support.tracking import SETTINGS

NAME = "reviewtune-reviews"
LOADER = """
import pandas as pd

class Model:
    def __init__(self, folder):
        self.said = open(folder + "/served_model.json").read()
    def predict(self, table, params=None):
        return pd.DataFrame({"label": [self.said] * len(table)})

def _load_pyfunc(folder):
    return Model(folder)
"""


def promote_served(config: Config, folder: Path, place: Path) -> int:
    """Make the served model in a folder the champion; its version. `place` is for temporary files."""
    settings, name, code = config.tracking, config.registered_name, place / "loader"
    code.mkdir(exist_ok=True)
    (code / "__init__.py").touch()
    package = registry.Package(
        loader="loader",
        code=code,
        requirements=[],
        inputs={"text": "string"},
        outputs={"label": "string"},
        example=pd.DataFrame({"text": ["late"]}),
    )
    before = registry.by_alias(settings, name)
    version = registry.register(settings, name, folder, package=package, run_id=None, tags={}, description="")
    aliases.promote(settings, version, expected=before.version if before else None, reason="a test")
    return version.version


def register(place: Path, content: str, settings: TrackingConfig = SETTINGS) -> registry.RegisteredVersion:
    """A version whose folder holds this text; `place` is for temporary files."""
    folder, code = place / f"folder-{os.getpid()}-{content}", place / "loader_of_tests"
    for made in (folder, code):
        made.mkdir(parents=True, exist_ok=True)
    (folder / "served_model.json").write_text(content)
    (code / "__init__.py").write_text(LOADER)
    return registry.register(
        settings,
        NAME,
        folder,
        package=registry.Package(
            loader="loader_of_tests",
            code=code,
            requirements=["pandas"],
            inputs={"text": "string"},
            outputs={"label": "string"},
            example=pd.DataFrame({"text": ["late"]}),
        ),
        run_id=None,
        tags={"arm": content, "nothing": None},
        description="a model of the tests",
    )


def promote(place: Path, content: str, settings: TrackingConfig = SETTINGS) -> aliases.Change:
    """Register this text and make it champion, held against the champion of now."""
    champion = registry.by_alias(settings, NAME)
    version = register(place, content, settings)
    expected = champion.version if champion else None
    return aliases.promote(settings, version, expected=expected, reason=f"it says {content}")


def said(place: Path, alias: str = registry.CHAMPION, settings: TrackingConfig = SETTINGS) -> str | None:
    """The text of the version with this alias, read back from its stored files."""
    version = registry.by_alias(settings, NAME, alias)
    if version is None:
        return None
    folder = registry.download(settings, version, place / f"copy-{os.urandom(4).hex()}")
    return (folder / "served_model.json").read_text()
