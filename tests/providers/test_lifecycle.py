"""What ends, when, and what is said about it, on the days around each date."""

from datetime import date, timedelta

import pytest

from reviewtune.core import clock
from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.providers import lifecycle
from reviewtune.providers.lifecycle import EndingNotice, depends_on, endings_of, line_about, names_of, service_of, warn
from tests.support.lifecycle import fact, facts

MINI = "gpt-4o-mini-2024-07-18"
FINETUNE = f"ft:{MINI}:acme:issues:AbC123"


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> None:
    lifecycle.forget_warnings()


def at(config: Config, kind: str = "openai", base_url: str | None = None) -> ProviderConfig:
    return config.provider.model_copy(update={"kind": kind, "base_url": base_url, "base_model": MINI})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini", "gpt-4o-mini"),
        (MINI, "gpt-4o-mini"),
        (MINI, MINI),
        (FINETUNE, "gpt-4o-mini"),
        (FINETUNE, MINI),
        (f"{FINETUNE}:ckpt-step-20", MINI),
        (f"{MINI}.ft-0a1b2c-issues", "gpt-4o-mini"),
        ("GPT-4o-mini", "gpt-4o-mini"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-4o-latest", "gpt-4o"),
    ],
)
def test_snapshots_and_fine_tunes_depend_on_their_family(model: str, name: str) -> None:
    assert depends_on(model, name)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (MINI, "gpt-4o"),
        (FINETUNE, "gpt-4o"),
        ("gpt-4.1-mini", "gpt-4.1"),
        ("gpt-4o", "gpt-4"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20"),
        ("gpt-4o-mini-audio", "gpt-4o-mini"),
        ("my-gpt-4o-mini", "gpt-4o-mini"),
        ("ft:gemma-3-270m:local:gpt-4o-mini:1", "gpt-4o-mini"),
        ("ft:", "gpt-4o-mini"),
        ("gpt-4x1", "gpt-4.1"),
        ("", "gpt-4"),
    ],
)
def test_other_models_do_not(model: str, name: str) -> None:
    assert not depends_on(model, name)


def test_a_name_that_says_nothing_depends_on_its_base_model() -> None:
    assert names_of("issues-deployment", MINI) == ("issues-deployment", MINI)
    assert names_of(FINETUNE, "gpt-4.1") == (FINETUNE,)


@pytest.mark.parametrize(
    ("kind", "base_url", "service"),
    [
        ("openai", None, "openai"),
        ("compatible", "https://eu.api.openai.com/v1", "openai"),
        ("compatible", "https://acme.openai.azure.com/openai/v1", "azure"),
        ("compatible", "https://notopenai.com/v1", "compatible"),
        ("openai", "http://127.0.0.1:9000/v1", "compatible"),
        ("openai", "https://gateway.example.org/v1", "openai"),
        ("azure", "https://acme.example.org", "azure"),
        ("local", None, "local"),
        ("local", "http://gpu.example.org/v1", "local"),
    ],
)
def test_the_address_decides_whose_facts_apply(config: Config, kind: str, base_url: str | None, service: str) -> None:
    assert service_of(at(config, kind, base_url)) == service


@pytest.mark.parametrize(("day", "over"), [("2027-01-05", False), ("2027-01-06", False), ("2027-01-07", True)])
def test_the_last_training_day_is_a_day_for_training(config: Config, day: str, over: bool) -> None:
    (ending,) = endings_of(at(config), (MINI,), facts(fact("last_training_day", "2027-01-06")))
    assert ending.is_over(date.fromisoformat(day)) == over


@pytest.mark.parametrize(("day", "over"), [("2027-01-13", False), ("2027-01-14", True), ("2027-01-15", True)])
def test_on_the_day_of_a_shutdown_nothing_answers(config: Config, day: str, over: bool) -> None:
    (ending,) = endings_of(at(config), (FINETUNE,), facts(fact("shutdown", "2027-01-14", models=("gpt-4o-mini",))))
    assert ending.is_over(date.fromisoformat(day)) == over


def test_an_end_that_may_come_later_is_never_certain(config: Config) -> None:
    (ending,) = endings_of(at(config), (MINI,), facts(fact("shutdown", "2027-10-01", not_before=True)))
    assert not ending.is_over(date(2030, 1, 1))
    assert ending.in_words(date(2027, 9, 30)) == "stops answering on 2027-10-01 at the earliest, in 1 day"
    assert ending.in_words(date(2027, 10, 1)) == "may have stopped answering since 2027-10-01"


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("2026-11-29", "takes its last fine-tuning jobs on 2027-01-06, in 38 days"),
        ("2027-01-06", "takes its last fine-tuning jobs on 2027-01-06, today"),
        ("2027-01-07", "took its last fine-tuning jobs on 2027-01-06, 1 day ago"),
    ],
)
def test_the_words(config: Config, day: str, words: str) -> None:
    today = date.fromisoformat(day)
    (ending,) = endings_of(at(config), (MINI,), facts(fact("last_training_day", "2027-01-06")))
    assert ending.in_words(today) == words
    line = line_about(MINI, at(config), [ending], today)
    assert line.startswith(f"{MINI} (provider openai) {words}: choose another provider, such as provider=local")
    assert "\n" not in line


def test_the_provider_itself_counts_more_than_the_facts(config: Config) -> None:
    known = facts(fact("shutdown", "2027-01-14"), fact("last_training_day", "2027-01-06"))
    postponed = date(2027, 6, 30)
    assert [ending.date for ending in endings_of(at(config), (MINI,), known, postponed)] == [
        date(2027, 1, 6),
        postponed,
    ]


def test_facts_of_other_providers_and_restrictions_of_some_customers_end_nothing(config: Config) -> None:
    others = facts(fact("shutdown", "2027-01-14", provider="azure"), fact("training_restricted", "2026-05-07"))
    assert endings_of(at(config), (MINI,), others) == ()
    everything = facts(fact("shutdown", "2027-01-14"))
    assert endings_of(at(config, "local"), (MINI,), everything) == ()


@pytest.mark.parametrize(("days", "warned"), [(91, False), (90, True), (1, True), (0, True), (-5, True)])
def test_warnings_come_90_days_ahead(config: Config, days: int, warned: bool) -> None:
    lines: list[str] = []
    with clock.stopped_at(date(2027, 1, 14) - timedelta(days=days)):
        warn(lines.append, at(config), (FINETUNE,), facts(fact("shutdown", "2027-01-14")), trains=False)
    assert len(lines) == warned


def test_a_warning_comes_once_and_names_all_that_ends(config: Config) -> None:
    known, lines = facts(fact("shutdown", "2027-01-14"), fact("last_training_day", "2027-01-06")), list[str]()
    with clock.stopped_at(date(2026, 11, 29)):
        for _ in range(3):
            warn(lines.append, at(config), (MINI,), known, trains=True)
        assert "takes its last fine-tuning jobs on 2027-01-06, in 38 days, stops answering on 2027-01-14" in lines[0]
        assert len(lines) == 1
        warn(lines.append, at(config), ("gpt-4.1",), known, trains=False)
    assert "fine-tuning" not in lines[1].partition(":")[0]
    assert len(lines) == 2


def test_an_application_that_runs_for_months_is_told_in_time(config: Config) -> None:
    lines: list[str] = []
    known = facts(fact("shutdown", "2027-01-14"))
    notice = EndingNotice(lines.append, at(config), (FINETUNE,), known)
    for day in (date(2026, 10, 15), date(2026, 10, 16), date(2026, 10, 16), date(2026, 12, 1)):
        with clock.stopped_at(day):
            notice()
    assert len(lines) == 1
    assert "in 90 days" in lines[0]
