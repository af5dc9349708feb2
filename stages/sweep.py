"""A sweep: fine-tune each combination, as child runs of one MLflow run, ranked at the end by the validation split.

Run: python stages/sweep.py --multirun prompt=short,detailed training.n_epochs=1,2 training.seed=1,2,3
     python stages/sweep.py --multirun experiment=learning_curve
A faulty combination is refused before the first job. If a job fails, the others continue. After an interruption the
same command continues; run again after its end, it trains and asks nothing.
"""

import math
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from reviewtune.core.terminal.entry_point import program
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.errors import ConfigError
from reviewtune.sweeps.job import Job, Sweep
from reviewtune.sweeps.run_job import run_job


@hydra.main(version_base=None, config_path="../conf", config_name="config")
def main(tree: DictConfig) -> float:
    try:
        job = Job.of(tree, list(HydraConfig.get().overrides.task))
    except ConfigError as error:
        if Sweep.current() is None:  # without --multirun there is only this job
            raise
        print(error, file=sys.stderr)  # only in a search: the combinations of a grid are checked beforehand
        return math.nan
    accuracy = run_job(job, progress=TerminalProgress())
    if math.isnan(accuracy) and Sweep.current() is None:
        sys.exit(1)
    return accuracy


if __name__ == "__main__":
    with program():
        main()
