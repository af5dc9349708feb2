"""A folder of a served model that no run has made."""

from pathlib import Path
from typing import Any

from reviewtune.analyzer.served_model import Provenance, ServedModel, write_served_model
from reviewtune.core.config.config import Config

NOWHERE = Provenance(
    run_id=None,
    training_run_id=None,
    job_id=None,
    git_revision=None,
    data_sha256="0" * 64,
    training_sha256="0" * 64,
    test_sha256="0" * 64,
)


def write_served(folder: Path, config: Config, **fields: Any) -> None:  # noqa: ANN401 - fields have different types
    """Make the folder with its served_model.json.

    Args:
        folder: does not exist yet.
        config: how the model is asked.
        **fields: of the served model: arm, kind and model; and calibration and threshold, which are None otherwise.
    """
    general = {"name": "benchmark", "wanted_accuracy": 0.8, "provenance": NOWHERE}
    unknown = dict.fromkeys(("label_prior", "calibration", "threshold"))
    folder.mkdir()
    write_served_model(ServedModel(**{**general, **unknown, **fields, "config": config}), folder)
