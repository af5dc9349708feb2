"""Names that follow from content: the same request on the same data gives the same job, seed and model."""

import hashlib
import json
import re
from pathlib import PurePath


def digest(*parts: object) -> str:
    """SHA-256 over JSON values, in hex."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def seed_of(content: str) -> int:
    return int(digest(content, "seed")[:8], 16) % 2**31


def job_id(content: str, ordinal: int) -> str:
    return f"ftjob-{digest(content, ordinal)[:24]}"


def model_name(base: str, suffix: str | None, job: str) -> str:
    """`ft:BASE:local:SUFFIX:ID`; a base model given as a folder or hub name counts by its last part."""
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", suffix or "")
    return f"ft:{PurePath(base).name}:local:{label}:{job.removeprefix('ftjob-')[:8]}"


def checkpoint_name(model: str, step: int) -> str:
    return f"{model}:ckpt-step-{step}"
