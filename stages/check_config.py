"""Stage check_config: conf/, params.yaml -> reports/config_ok.txt, the root of the graph.

Run: dvc repro check_config        Write params.yaml from conf/: python stages/check_config.py --write (`make params`)
"""

import os
from pathlib import Path

from reviewtune.core.config.data import DataConfig
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.data.sides.frozen_file import read_frozen
from reviewtune.errors import ConfigError, DataError

PARAMS, OK = ProjectPaths().params, ProjectPaths().reports / "config_ok.txt"


def main(*, write: bool) -> None:
    if write:
        PARAMS.write_text(compose_text(), encoding="utf-8")
        return
    config = load_params(PARAMS)
    # In `dvc exp run` DVC composes params.yaml with the overrides; otherwise the file must match conf/.
    if "DVC_EXP_NAME" not in os.environ and PARAMS.read_text(encoding="utf-8") != compose_text():
        raise ConfigError(
            f"{PARAMS} is not what conf/ says; edit conf/ and run `make params` "
            "(to change a value for one run: `dvc exp run -S key=value`)"
        )
    _refuse_missing_reviews(config.data)
    read_frozen(ProjectPaths().frozen_splits)
    OK.parent.mkdir(exist_ok=True)
    OK.write_text("conf/ and params.yaml are valid\n")


def _refuse_missing_reviews(data: DataConfig) -> None:
    """DVC's own message names the file but not what to do. A file that DVC stores may not be checked out yet."""
    stored = any(Path(f"{part}.dvc").exists() for part in (data.path, *data.path.parents))
    if not data.path.is_file() and not stored:
        raise DataError(
            f"{data.path}: no such file; put the labelled reviews there, or correct `path` in "
            f"conf/data/{data.name}.yaml and run `make params`"
        )


if __name__ == "__main__":
    run_stage(main, __doc__, write=bool)
