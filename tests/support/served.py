"""Folders of served models, and answers of a provider with log-probabilities."""

import json
import math
from pathlib import Path
from typing import Any

from reviewtune.analyzer.served_model import Calibration, Provenance, ServedModel, write_served_model
from reviewtune.core.config.config import Config
from tests.support.odd_server import completion

CALIBRATION = Calibration(confidence=(0.2, 0.6, 1.0), accuracy=(0.1, 0.5, 0.9))
RARE = 1e-9  # the last option listed: no label that is not listed is more likely
NOWHERE = Provenance(
    run_id=None,
    training_run_id=None,
    job_id=None,
    git_revision=None,
    data_sha256="0" * 64,
    training_sha256="0" * 64,
    test_sha256="0" * 64,
)


def provided_by(config: Config, base_url: str, **changes: object) -> Config:
    """The configuration with a provider at this address; `changes` are settings of the provider."""
    at = {
        "kind": "compatible",
        "base_url": base_url,
        "api_key_env": None,
        "timeout": 20.0,
        "priced_as": None,
        **changes,
    }
    arms = {
        name: arm.model_copy(update={"provider": arm.provider.model_copy(update=at)}) if arm.kind == "prompt" else arm
        for name, arm in config.arms.items()
    }
    return config.model_copy(update={"provider": config.provider.model_copy(update=at), "arms": arms})


def served_folder(folder: Path, config: Config, model: str = "ft:issues", **changes: Any) -> Path:
    """A served model that is sure from a calibrated confidence of 0.8 on; `changes` are fields of served_model.json."""
    fields = {
        "name": "reviewtune-reviews",
        "arm": "finetuned",
        "kind": "finetuned",
        "model": model,
        "config": config,
        "label_prior": None,
        "calibration": CALIBRATION,
        "wanted_accuracy": 0.8,
        "threshold": 0.8,
        "provenance": NOWHERE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_served_model(ServedModel(**{**fields, **changes}), folder)
    return folder


def scored_completion(label: str, p: float = 1.0, other: str = "") -> dict[str, Any]:
    """An answer whose label has the probability p, and `other` the rest."""
    options = {label: p, **({other: 1 - p} if other else {}), "~": RARE}
    words = [_word('{"label": "', {'{"label": "': 1.0}), _word(label, options), _word('"}', {'"}': 1.0})]
    return completion(json.dumps({"label": label}), logprobs={"content": words})


def unreadable_completion() -> dict[str, Any]:
    """A reply without an answer in it, as some servers send under load."""
    return {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}


def _word(text: str, options: dict[str, float]) -> dict[str, Any]:
    top = [{"token": word, "logprob": math.log(p), "bytes": list(word.encode())} for word, p in options.items()]
    return {**top[0], "top_logprobs": top}
