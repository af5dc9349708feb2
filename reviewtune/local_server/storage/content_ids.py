"""Ids computed from content: the same request with the same data gives the same job id, seed and model name."""

import hashlib
import json
import re
from pathlib import PurePath


def digest(*parts: object) -> str:
    """SHA-256 over JSON values, in hex."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def seed_of(content: str) -> int:
    """The seed of a job that names none."""
    return int(digest(content, "seed")[:8], 16) % 2**31


def job_id(content: str, ordinal: int) -> str:
    """The id of the job number `ordinal` with this content."""
    return f"ftjob-{digest(content, ordinal)[:24]}"


def model_name(base: str, suffix: str | None, job: str) -> str:
    """`ft:BASE:local:SUFFIX:ID`; of a base model that is a folder or hub name, BASE is the last part."""
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", suffix or "")
    return f"ft:{PurePath(base).name}:local:{label}:{job.removeprefix('ftjob-')[:8]}"


def checkpoint_name(model: str, step: int) -> str:
    """The name of a fine-tune's checkpoint at a step."""
    return f"{model}:ckpt-step-{step}"
