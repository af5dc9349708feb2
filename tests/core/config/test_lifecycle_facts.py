"""conf/lifecycle: the published dates, each with its source, and what is refused."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.errors import ConfigError

CONF = Path(__file__).parents[3] / "conf"


def test_the_published_dates(config: Config) -> None:
    """Of OpenAI's deprecations page and Microsoft's retirement schedule."""
    known = {(fact.provider, fact.event, fact.date, fact.not_before) for fact in config.lifecycle.facts.values()}
    assert known == {
        ("openai", "training_restricted", date(2026, 5, 7), False),
        ("openai", "training_restricted", date(2026, 7, 2), False),
        ("openai", "last_training_day", date(2027, 1, 6), False),
        ("openai", "shutdown", date(2026, 10, 23), False),
        ("openai", "shutdown", date(2027, 1, 14), False),
        ("azure", "last_training_day", date(2027, 4, 1), True),
        ("azure", "shutdown", date(2027, 10, 1), True),
        ("azure", "last_training_day", date(2027, 4, 14), True),
        ("azure", "shutdown", date(2027, 10, 14), True),
    }
    assert config.lifecycle.warn_days == 90


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("lifecycle.facts.openai_last_jobs.date=2027-02-30", "lifecycle.facts.openai_last_jobs.date"),
        ("lifecycle.facts.openai_last_jobs.date=soon", "lifecycle.facts.openai_last_jobs.date"),
        ("lifecycle.facts.openai_last_jobs.retrieved=2026-13", "lifecycle.facts.openai_last_jobs.retrieved"),
        ("lifecycle.facts.openai_last_jobs.source=''", "lifecycle.facts.openai_last_jobs.source"),
        ("lifecycle.facts.openai_last_jobs.event=party", "lifecycle.facts.openai_last_jobs.event"),
        ("lifecycle.facts.openai_january.models=[]", "lifecycle.facts.openai_january.models"),
        ("lifecycle.warn_days=-1", "lifecycle.warn_days"),
        ("+lifecycle.facts.mine={provider: openai}", "lifecycle.facts.mine.source"),
    ],
)
def test_a_fact_needs_a_real_date_and_a_source(override: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_text([override], CONF)
    assert f"{path}: " in str(caught.value)


def test_params_of_earlier_runs_know_nothing_of_it(tmp_path: Path) -> None:
    tree = yaml.safe_load(compose_text(conf=CONF))
    del tree["lifecycle"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    lifecycle = load_params(tmp_path / "params.yaml").lifecycle
    assert (lifecycle.warn_days, lifecycle.facts) == (90, {})
