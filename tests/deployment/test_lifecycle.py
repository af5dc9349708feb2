"""`reviewtune lifecycle` and the warnings of `compare`, in a project with a real MLflow store and a real provider."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from reviewtune.commands.deployment import lifecycle as command
from reviewtune.commands.results.compare import CompareOptions, compare
from reviewtune.core import clock
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.deployment.lifecycle.uses import answering, warn_of
from reviewtune.providers import lifecycle
from reviewtune.tracking.runs import open_run
from tests.support.clones import Clone
from tests.support.comparison_files import write_comparison
from tests.support.odd_server import odd_server
from tests.support.tracking import stored

MINI = "gpt-4o-mini-2024-07-18"
TODAY = date(2026, 11, 29)


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lifecycle.forget_warnings()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()


def configure(project: Path, *overrides: str) -> Config:
    Path("params.yaml").write_text(compose_text(overrides, project / "conf"), encoding="utf-8")
    return load_params(Path("params.yaml"))


def shown(capsys: pytest.CaptureFixture[str], *, status: int, day: date = TODAY, as_json: bool = True) -> Any:
    capsys.readouterr()
    with clock.stopped_at(day), pytest.raises(SystemExit) as ended:
        command.show(as_json=as_json)
    assert ended.value.code == status
    out = capsys.readouterr().out
    return json.loads(out) if as_json else out


def finetune_run(config: Config, model: str, base: str, provider: str, kind: Any = "job") -> None:
    with open_run(config.tracking, name=model, kind=kind, tags={}) as run:
        run.tags({"model": model, "base_model": base, "provider": provider})


def register(config: Config, **versions: dict[str, str]) -> None:
    """A version with these tags for each alias, by MLflow's own client."""
    client, name = stored(), config.registered_name
    client.create_registered_model(name)
    for alias, tags in versions.items():
        made = client.create_model_version(name, source="file:///nowhere", tags=tags)
        client.set_registered_model_alias(name, alias, made.version)


def test_a_local_project_depends_on_nothing_that_ends(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(project)
    report = shown(capsys, status=0)
    assert {row["provider"] for row in report["rows"]} == {"local"}
    assert [row["date"] for row in report["rows"]] == [None]
    assert report["missing"] == report["notes"] == []
    assert not Path("mlruns").exists()
    assert "nothing is known to end within 90 days" in shown(capsys, status=0, as_json=False)


@pytest.mark.parametrize(("day", "status"), [("2026-10-07", 0), ("2026-10-08", 3), ("2027-05-01", 3)])
def test_the_exit_status_is_for_scheduled_jobs(
    project: Path, capsys: pytest.CaptureFixture[str], day: str, status: int
) -> None:
    """90 days before 2027-01-06 and after all is over."""
    configure(project, "provider=openai")
    report = shown(capsys, status=status, day=date.fromisoformat(day))
    assert [(row["event"], row["date"]) for row in report["rows"]] == [
        ("last_training_day", "2027-01-06"),
        ("shutdown", "2027-01-14"),
    ]
    assert report["rows"][0]["used_by"] == ["provider.base_model", "arm zero_shot", "arm few_shot", "arm few_shot_cot"]
    assert "read 2026-11-23" in report["rows"][0]["source"]
    assert len(report["notes"]) == 2
    assert "OPENAI_API_KEY is not set" in report["missing"][0]


def test_a_provider_that_is_only_asked_has_no_last_training_day(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(project, "+provider@arms.zero_shot.provider=openai")
    report = shown(capsys, status=3)
    assert [(row["provider"], row["event"], row["used_by"]) for row in report["rows"]] == [
        ("openai", "shutdown", ["arm zero_shot"]),
        ("local", None, ["provider.base_model", "arm few_shot", "arm few_shot_cot"]),
    ]
    assert report["notes"] == []


def test_the_provider_is_asked_once_and_names_the_date(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {"data": [{"id": "big", "shutdown_date": 1799884800}, {"id": "other", "shutdown_date": "2026-12-01"}]}
    with odd_server({"GET /v1/models": lambda _: listed}) as server:
        place = (f"provider.base_url={server.base_url}", "provider.base_model=big", "provider.api_key_env=null")
        configure(project, "provider=compatible", *place)
        report = shown(capsys, status=3)
        assert server.count("GET /v1/models") == 1
        assert len(server.seen) == 1
        table = shown(capsys, status=3, as_json=False)
    (row,) = report["rows"]
    assert (row["model"], row["date"], row["days_left"]) == ("big", "2027-01-14", 46)
    assert row["source"] == "provider compatible, asked now"
    assert "ended or ends within 90 days: big; `reviewtune rebase --provider local` moves to" in table


def test_champion_previous_and_stored_runs_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configure(project)
    for number in range(2):
        finetune_run(config, f"ft:{MINI}:acme::{number}", MINI, "openai")
    finetune_run(config, "issues.ft-1", "gpt-4.1-mini", "azure", "finetune")
    older = {"kind": "finetuned", "model": f"ft:{MINI}:acme::0"}  # its provider is that of the run
    register(config, previous=older, champion={"kind": "prompt", "model": "gpt-4o", "provider": "openai"})
    rows = {row["model"]: row for row in shown(capsys, status=3)["rows"]}
    assert rows["gpt-4o"]["used_by"] == [f"champion (version 2 of {config.registered_name})"]
    assert rows[f"ft:{MINI}:acme::0"]["used_by"] == [f"previous (version 1 of {config.registered_name})"]
    assert rows[f"2 fine-tunes of {MINI}"]["used_by"] == ["stored runs"]
    assert {rows[name]["date"] for name in ("gpt-4o", f"ft:{MINI}:acme::0", f"2 fine-tunes of {MINI}")} == {
        "2027-01-14"
    }
    assert (rows["issues.ft-1"]["date"], rows["issues.ft-1"]["not_before"]) == ("2027-10-14", True)
    assert "2027-10-14 or later" in shown(capsys, status=3, as_json=False)


def test_a_damaged_record_and_an_unreachable_registry_are_named_and_the_rest_is_there(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    configure(project, "provider=openai", "tracking.uri=http://127.0.0.1:9")
    Path("models").mkdir()
    Path("models/finetuned.json").write_text("{")
    report = shown(capsys, status=3)
    assert len(report["rows"]) == 2
    record, stored_there, dates = report["missing"]
    assert record.startswith("the last fine-tune: ")
    assert stored_there.startswith("champion, previous and stored runs: MLflow store http://127.0.0.1:9: ")
    assert dates.startswith("shutdown dates of provider openai: ")
    assert report["unknown_uses"]


def test_a_champion_that_cannot_be_looked_up_is_no_calm(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end may be near: cron must send a mail."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    configure(project, "tracking.uri=http://127.0.0.1:9")
    *_, champion, conclusion = shown(capsys, status=1, as_json=False).splitlines()
    assert champion.startswith("not seen: champion, previous and stored runs: MLflow store http://127.0.0.1:9: ")
    assert conclusion == (
        "of what could be seen, nothing is known to end within 90 days: make the rest readable, then look again"
    )


def test_compare_warns_in_one_line(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_comparison(tmp_path / "other", ["late", "broken", "other"], 40)
    configure(project, "provider=openai")
    for _ in range(2):
        with clock.stopped_at(TODAY):
            compare(CompareOptions(reports=folder.reports))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith(
        f"warning: {MINI} (provider openai) takes its last fine-tuning jobs on 2027-01-06, in 38"
    )
    assert "stops answering on 2027-01-14, in 46 days: choose another provider, such as provider=local" in lines[0]


def test_promote_names_the_end_of_the_model_that_is_to_answer(project: Path) -> None:
    """By the provider of its arm, and by the project's facts."""
    config, lines = configure(project, "+provider@arms.zero_shot.provider=openai"), list[str]()
    with clock.stopped_at(TODAY):
        warn_of([answering("finetuned", "ft:gemma-3-270m:local::1", config)], config, lines.append)
        warn_of([answering("few_shot", "gemma-3-270m", config)], config, lines.append)
        assert not lines
        warn_of([answering("zero_shot", MINI, config)], config, lines.append)
    assert lines[0].startswith(f"{MINI} (provider openai) stops answering on 2027-01-14, in 46 days: ")


def test_a_new_fact_makes_no_stage_run_again(linear_project: Clone) -> None:
    """Only the check of the configuration runs, and writes what it wrote before."""
    assert "split" in linear_project.repro("split")
    linear_project.edit("conf/lifecycle/default.yaml", "2027-01-14", "2027-02-14")
    linear_project.write_params()
    assert linear_project.repro("split") == ["check_config"]
