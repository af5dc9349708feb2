"""Stage check_config: conf/, params.yaml -> reports/config_ok.txt, the root of the graph.

Run: dvc repro check_config        Write params.yaml from conf/: python stages/check_config.py --write (`make params`)
"""

import os
from pathlib import Path

from reviewtune.core.config import conf_files
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
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
    _refuse_missing_reviews(config)
    _refuse_missing_sides(ProjectPaths().frozen_splits)
    OK.parent.mkdir(exist_ok=True)
    OK.write_text("conf/ and params.yaml are valid\n")


def _refuse_missing_reviews(config: Config) -> None:
    """DVC's own message names the file but not what to do. A file that DVC stores may not be checked out yet."""
    data = config.data
    stored = any(Path(f"{part}.dvc").exists() for part in (data.path, *data.path.parents))
    if not data.path.is_file() and not stored:
        where = conf_files.place(Path("conf"), config.model_dump(mode="json"), ("data", "path")) or "conf/data/"
        raise DataError(
            f"{data.path}: no such file; put the labelled reviews there, or correct `path` in {where} and "
            "run `make params`"
        )


def _refuse_missing_sides(path: Path) -> None:
    """DVC's own message would not say what is lost with the file."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file, without which all reviews would be split anew; restore it: `git checkout {path}` "
            "(if nothing was ever frozen: `echo review_sha256_v1,side > data/frozen_splits.csv`)"
        )


if __name__ == "__main__":
    run_stage(main, __doc__, write=bool)
