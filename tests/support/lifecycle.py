"""Facts on what ends, for tests."""

from datetime import date
from typing import Any

from reviewtune.core.config.lifecycle import LifecycleConfig, LifecycleFact


def fact(event: str, day: str, **changes: Any) -> LifecycleFact:
    fields = {"provider": "openai", "models": "all", "event": event, "date": date.fromisoformat(day)}
    return LifecycleFact(**{**fields, "source": "a page", "retrieved": "2026-11", **changes})


def facts(*listed: LifecycleFact, warn_days: int = 90) -> LifecycleConfig:
    return LifecycleConfig(warn_days=warn_days, facts={f"fact_{number}": one for number, one in enumerate(listed)})
