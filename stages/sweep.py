"""A sweep: fine-tune and evaluate each combination, as child runs of one MLflow run, ranked at the end.

Run: python stages/sweep.py --multirun prompt=short,detailed training.n_epochs=1,2
A faulty combination is refused before the first job. The same command again trains nothing that is trained already.
"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from reviewtune.errors import one_line_errors
from reviewtune.sweeping import Job, run_job


@hydra.main(version_base=None, config_path="../conf", config_name="config")
def main(tree: DictConfig) -> float:
    with one_line_errors():
        return run_job(Job.of(tree, list(HydraConfig.get().overrides.task)))


if __name__ == "__main__":
    main()
