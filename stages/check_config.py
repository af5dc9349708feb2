"""Stage check_config: conf/, params.yaml -> reports/config_ok.txt, the root of the graph.

Run: dvc repro check_config        Write params.yaml from conf/: python stages/check_config.py --write (`make params`)
"""

import os
from pathlib import Path

from reviewtune.config import compose_text, load_params
from reviewtune.errors import ConfigError
from reviewtune.stage import run_stage

PARAMS, OK = Path("params.yaml"), Path("reports/config_ok.txt")


def main(*, write: bool) -> None:
    if write:
        PARAMS.write_text(compose_text(), encoding="utf-8")
        return
    load_params(PARAMS)
    # Inside `dvc exp run` DVC itself composed params.yaml, overrides included; elsewhere it must be what conf/ says.
    if "DVC_EXP_NAME" not in os.environ and PARAMS.read_text(encoding="utf-8") != compose_text():
        raise ConfigError(
            f"{PARAMS} is not what conf/ says; edit conf/ and run `make params` "
            "(a change for one run: `dvc exp run -S key=value`)"
        )
    OK.parent.mkdir(exist_ok=True)
    OK.write_text("conf/ and params.yaml are valid\n")


if __name__ == "__main__":
    run_stage(main, __doc__, write=bool)
