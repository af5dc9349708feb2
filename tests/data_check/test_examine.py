"""The data doctor: what is planted is found, what is sound is called sound, and a page says so without a network."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner, Result

from reviewtune.commands.main import app
from reviewtune.core.atomic_files import write_json
from reviewtune.core.config import Config
from reviewtune.data.chat_files import lines_of, write_lines
from reviewtune.data.prompts import Prompt
from reviewtune.data_check import checks, finetuned_curve, html_report, learning_curve, plots, training_checks
from reviewtune.data_check.checks import Check
from reviewtune.data_check.cross_validation import embed, fit, material
from reviewtune.data_check.examine import Diagnosis, examine
from reviewtune.data_check.label_errors import COLUMNS, suspects
from reviewtune.data_check.labelled_file import LabelledFile, read
from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.classification import per_label_table, score
from reviewtune.evaluation.metrics_file import ArmKind, ArmMetrics, write_metrics
from reviewtune.evaluation.run_file import ArmRun, write_run
from tests.support.serving import ServerProcess

WORDS = {
    "late": "parcel weeks waiting courier tracking delayed arrived post slow",
    "broken": "cracked dented shattered smashed leaking box crushed glass bent",
    "fine": "lovely great happy perfect recommend works nice pleased good",
}


def invented(n: int, seed: int = 0) -> pd.DataFrame:
    """n reviews a label that a linear model tells apart with ease."""
    rng = np.random.default_rng(seed)
    rows = [
        (" ".join(rng.choice(words.split(), 6)) + f" {label[0]}{i}", label)
        for label, words in WORDS.items()
        for i in range(n)
    ]
    return pd.DataFrame(rows, columns=["text", "label"])


def saved(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "own.csv"
    table.to_csv(path, index=False)
    return path


def opened(table: pd.DataFrame, tmp_path: Path) -> LabelledFile:
    return read(saved(table, tmp_path), None, text_column=None, label_column=None)


def diagnosed(table: pd.DataFrame, tmp_path: Path) -> Diagnosis:
    return examine(opened(table, tmp_path), reports=tmp_path / "reports", similarity=0.9)


def named(diagnosis: Diagnosis) -> dict[str, Check]:
    return {check.name: check for check in diagnosis.checks}


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["check-data", *map(str, arguments)])


def test_planted_label_errors_are_ranked_first(tmp_path: Path) -> None:
    table = invented(30)
    planted = [3, 35, 70, 80]
    table.loc[planted, "label"] = ["broken", "fine", "late", "broken"]
    found = diagnosed(table, tmp_path).suspects
    assert tuple(found.columns) == COLUMNS
    assert set(found["line"].head(4)) == {row + 2 for row in planted}
    assert dict(zip(found["line"], found["suggested"], strict=True))[37] == "broken"


def test_suspects_are_those_of_confident_learning_worked_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    sure = np.array([0.9, 0.8, 0.1, 0.2, 0.1, 0.15])  # probability of class 0; row 2 is labelled 0 and looks like 1
    found = suspects(labels, np.column_stack([sure, 1 - sure]))
    assert [one.position for one in found] == [2]
    assert (found[0].suggested, round(found[0].label_probability, 6)) == (1, 0.1)


def test_the_short_features_give_the_answers_of_the_long_ones() -> None:
    """The kernel form of the linear baseline is the linear baseline."""
    from reviewtune.evaluation.linear_baseline import classifier

    table = invented(20)
    train, test = np.arange(0, 60, 2), np.arange(1, 60, 2)
    labels = np.unique(table["label"], return_inverse=True)[1]
    vectorizer, model = classifier(0)[0], classifier(0)[1]
    sparse = vectorizer.fit_transform(table["text"])
    long = model.fit(sparse[train], labels[train]).predict_proba(sparse[test])
    short = embed(table["text"].tolist())
    assert fit(short[train], labels[train], 0).predict_proba(short[test]) == pytest.approx(long, abs=1e-4)


def test_near_duplicates_never_stand_on_both_sides_of_a_fold() -> None:
    table = invented(12)
    twice = pd.concat([table, table.assign(text=table["text"].str.upper() + "!")], ignore_index=True)
    of = material(twice["text"].tolist(), twice["label"].tolist(), similarity=0.9, seed=1)
    for train, test in of.folds:
        assert not set(of.groups[train]) & set(of.groups[test])
    assert sorted(row for _, test in of.folds for row in test) == list(range(len(twice)))


def test_a_power_law_is_found_again_and_carried_on() -> None:
    sizes = [100, 200, 300, 400]
    law = learning_curve.power_law(sizes, [1 - (0.05 + 2 * n**-0.5) for n in sizes])
    assert law is not None
    assert (law.floor, law.a, law.b) == pytest.approx((0.05, 2, 0.5), rel=0.05)
    assert law.accuracy(1600) == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [([0.5, 0.6, 0.66, 0.7], "more reviews would help"), ([0.9, 0.9, 0.9, 0.9], "more reviews would hardly help")],
)
def test_a_steep_curve_wants_reviews_and_a_flat_one_does_not(accuracies: list[float], verdict: str) -> None:
    right = np.random.default_rng(0).random((4000, 1)) < np.array(accuracies)
    labels, groups = np.arange(4000) % 4, np.arange(4000)
    curve = learning_curve.judge("x", [100, 200, 300, 400], right * 1.0, labels, groups, seed=1)
    assert curve.verdict == verdict
    for point in (*curve.measured, *curve.forecast):
        assert point.accuracy.low <= point.accuracy.value <= point.accuracy.high <= 1


@pytest.mark.parametrize("always", [True, False])
def test_what_is_not_above_the_commonest_label_has_learned_nothing(always: bool) -> None:
    labels, groups = np.arange(400) % 4, np.arange(400)
    guesses = np.zeros(400) if always else np.random.default_rng(0).permutation(labels)
    right = np.column_stack([guesses == labels] * 4) * 1.0
    curve = learning_curve.judge("x", [25, 50, 75, 100], right, labels, groups, seed=1)
    assert (curve.verdict, curve.forecast, curve.commonest) == ("learned nothing", (), 0.25)
    assert curve.lead.low <= curve.lead.value == curve.measured[-1].accuracy.value - 0.25
    check = training_checks.too_little_data([curve])
    assert check.level == "problem"
    assert "25.0% have the commonest label, and it is not above that" in check.says
    assert plots.learning_curves(check.facts["curves"]).startswith("<svg")


def test_kappa_of_cohens_example_and_its_interval(tmp_path: Path) -> None:
    """20 and 15 rows agreed, 5 and 10 not: kappa is 0.4."""
    pairs = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15
    table = pd.DataFrame(pairs, columns=["label", "label_second"]).assign(line=1, text="x", review_id="x")
    file = opened(invented(4), tmp_path)
    check = checks.annotators(LabelledFile(**{**vars(file), "table": table}), seed=1)
    assert check.facts["kappa"] == pytest.approx(0.4)
    assert check.facts["kappa"] == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)), abs=1e-6)
    assert check.facts["low"] < 0.2 < 0.4 < 0.6 < check.facts["high"]  # standard error 0.13
    assert check.facts["confused"] == [{"labels": ["a", "b"], "rows": 15}]

    def kappa(rows: np.ndarray) -> float:
        return float(cohen_kappa_score(*table[["label", "label_second"]].to_numpy()[rows].T))

    drawn = bootstrap(
        (np.arange(50),), kappa, vectorized=False, n_resamples=300, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (check.facts["low"], check.facts["high"]) == pytest.approx((drawn.low, drawn.high), abs=0.06)


def test_kappas_interval_covers_the_truth_about_95_times_in_100() -> None:
    """Two people, each of whom takes one of two equally frequent labels for the other in 1 of 10 cases: kappa 0.64."""
    rng, covered = np.random.default_rng(3), 0
    for seed in range(150):
        truth = rng.integers(0, 2, 200)
        one, two = (np.where(rng.random(200) < 0.9, truth, 1 - truth).astype(str) for _ in range(2))
        low, high = checks._kappa_interval(pd.DataFrame({"label": one, "label_second": two}), seed)
        covered += low <= 0.64 <= high
    assert 0.9 < covered / 150 < 0.99


def test_every_kind_of_trouble_is_named(tmp_path: Path) -> None:
    table = invented(12)
    extra = [
        (table["text"][0], "late"),
        (table["text"][1].upper() + "!!", "broken"),
        (table["text"][2], "fine"),
        ("Das Paket kam leider viel zu spät an und war schon geöffnet worden.", "late"),
        ("El paquete llegó muy tarde y la caja estaba completamente rota.", "late"),
        ("schÃ¶n gemacht parcel weeks", "fine"),
        ("write to me: jane@mail.example please, courier", "late"),
        ("word " * 1500, "fine"),
        ("Parcel weeks waiting", "Late"),
        ("", "late"),
    ]
    table = pd.concat([table, pd.DataFrame(extra, columns=["text", "label"])], ignore_index=True)
    found = named(diagnosed(table, tmp_path))
    levels = {name: check.level for name, check in found.items()}
    expected = dict.fromkeys(("format", "labels", "conflicts"), "problem") | dict.fromkeys(
        ("encoding", "lengths", "duplicates", "languages", "personal"), "notice"
    )
    assert {name: levels[name] for name in expected} == expected
    assert levels["agreement"] == levels["validation_loss"] == levels["worse_than_base"] == "unknown"
    assert found["format"].facts["faults"][0]["line"] == 47
    assert found["duplicates"].facts["exact"] == [[2, 38], [4, 40]]
    assert found["languages"].facts["foreign"][0]["language"] == "de"
    assert found["personal"].facts["rows"] == [{"line": 44, "kinds": ["email"]}]


@pytest.mark.parametrize(
    ("training", "validation", "level"),
    [
        ([2.0, 1.0, 0.5, 0.4, 0.2, 0.1], [2.0, None, 0.5, None, None, 0.9], "notice"),  # learned by heart
        ([2.0, 1.0, 0.5, 0.4, 0.3, 0.3], [2.0, None, 0.5, None, None, 0.48], "fine"),
        ([2.0, 2.0, 2.0, 2.0, 2.0, 2.0], [2.0, None, 2.0, None, None, 2.0], "problem"),  # learns nothing
    ],
)
def test_a_validation_loss_is_read_from_the_jobs_own_curve(
    tmp_path: Path, training: list[float], validation: list[float | None], level: str
) -> None:
    path = tmp_path / "curve.csv"
    table = {"step": [1, 2, 3, 4, 5, 6], "train_loss": training, "full_valid_loss": validation}
    pd.DataFrame(table).to_csv(path, index=False)
    assert training_checks.validation_loss(path).level == level


def test_another_file_in_the_curves_place_is_no_evidence(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    for text in ("", "no,curve\n\x00\n", "step,train_loss\n", "step,train_loss\nx,y\n"):
        path.write_text(text)
        assert training_checks.validation_loss(path).level == "unknown"


def arm(folder: Path, kind: ArmKind, truth: list[str], predicted: list[str]) -> None:
    """What evaluation leaves of an arm."""
    folder.mkdir(parents=True)
    scores = score(truth, predicted, labels=["a", "b"])
    metrics = ArmMetrics.of_scores(scores, arm=folder.name, kind=kind, model="m", test_sha256="0")
    write_metrics(metrics, folder)
    write_run(ArmRun(), folder)
    write_json({"confidence": []}, folder / "confidence.run.json")
    per_label_table(scores).to_csv(folder / "per_label.csv", index=False)
    rows = {"review_id": [f"r{i}" for i in range(len(truth))], "label": truth, "predicted": predicted}
    pd.DataFrame(rows).to_csv(folder / "predictions.csv", index=False)


def test_a_fine_tune_that_lost_is_told_with_its_labels_and_confusions(tmp_path: Path) -> None:
    truth = ["a"] * 20 + ["b"] * 20
    arm(tmp_path / "finetuned", "finetuned", truth, ["a"] * 38 + ["b"] * 2)
    assert training_checks.worse_than_base(tmp_path, seed=1).level == "unknown"  # nothing to compare it with
    arm(tmp_path / "plain", "prompt", truth, ["b"] * 1 + ["a"] * 19 + ["b"] * 20)
    arm(tmp_path / "linear", "linear", truth, truth)
    check = training_checks.worse_than_base(tmp_path, seed=1)
    assert (check.level, check.facts["base"], check.facts["verdict"]) == ("problem", "plain", "worse")
    assert check.facts["confusions"] == [{"label": "b", "answered": "a", "reviews": 18}]
    assert [row["label"] for row in check.facts["by_label"]] == ["b", "a"]
    assert "-42.5%" in check.says
    assert training_checks.worse_than_base(tmp_path / "none", seed=1).level == "unknown"


def test_our_own_reviews_through_the_command(tmp_path: Path, project: Path) -> None:
    """Both forms of one data set, the page, the CSV, the masked copy; nothing of the user's is overwritten."""
    file = project / "data/raw/reviews_ko.csv"
    page, doubtful, masked = (tmp_path / name for name in ("report.html", "doubtful.csv", "masked.csv"))
    ran = command(file, "--out", page, "--label-errors", doubtful, "--mask", masked)
    assert ran.exit_code == 0, ran.output
    assert "no text bears two labels" in ran.output
    assert "(0 reviews changed)" in ran.output
    assert pd.read_csv(masked).equals(pd.read_csv(file))
    assert list(pd.read_csv(doubtful)["rank"][:3]) == [1, 2, 3]
    again = command(file, "--mask", masked)
    assert isinstance(again.exception, DataError)
    before = page.read_bytes()
    assert command(file, "--out", page).exit_code == 0
    assert page.read_bytes() == before


def test_a_chat_file_is_read_without_its_prompt(tmp_path: Path, config: Config) -> None:
    table = invented(12)
    labels = dict.fromkeys(WORDS, "what it means")
    path = tmp_path / "training.jsonl"
    table.loc[0, "text"] = f"{table['text'][0]} call jane@mail.example"
    write_lines(path, lines_of(table, Prompt(config.prompt, labels)))
    ran = command(path, "--json", "--mask", tmp_path / "masked.jsonl")
    found = {check["name"]: check for check in json.loads(ran.stdout)["checks"]}
    assert found["labels"]["facts"]["counts"] == dict.fromkeys(sorted(WORDS), 12)
    assert found["duplicates"]["facts"]["near"] == []  # "Review: " before each makes none
    assert found["personal"]["facts"]["counts"]["email"] == 1
    masked = read(tmp_path / "masked.jsonl", None, text_column=None, label_column=None)
    assert masked.table["text"][0].endswith("call [EMAIL]")
    assert masked.table["text"][1:].tolist() == table["text"][1:].tolist()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path, other = saved(invented(4), tmp_path), tmp_path / "notes.html"
    other.write_text("mine")
    for option, target in (("--out", other), ("--label-errors", other), ("--mask", other), ("--out", path)):
        ran = command(path, option, target)
        assert isinstance(ran.exception, DataError)
    assert other.read_text() == "mine"


def test_a_refused_file_still_gets_its_report(tmp_path: Path) -> None:
    table = pd.concat([invented(8), pd.DataFrame([("", "late")], columns=["text", "label"])])
    ran = command(saved(table, tmp_path), "--out", tmp_path / "report.html")
    assert isinstance(ran.exception, DataError)
    assert "1 of 25 rows cannot be used; line 26: the review is empty" in str(ran.exception)
    assert (tmp_path / "report.html").exists()


def test_a_review_cannot_write_into_the_page_and_the_page_is_masked(tmp_path: Path) -> None:
    table = invented(6)
    table.loc[[0, 1], "text"] = "<script>alert(1)</script> jane@mail.example"
    table.loc[1, "label"] = "fine"
    text = html_report.page(diagnosed(table, tmp_path))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "jane@" not in text


def test_the_fine_tunes_own_curve_through_a_real_server(
    tmp_path: Path, config: Config, server: ServerProcess, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = opened(invented(26), tmp_path).table
    provider = {
        "kind": "local",
        "base_url": server.base_url,
        "base_model": base,
        "priced_as": None,
        "structured_output": False,
    }
    changed = config.model_copy(
        update={
            "data": config.data.model_copy(update={"labels": dict.fromkeys(WORDS, "-")}),
            "provider": config.provider.model_copy(update=provider),
            "training": config.training.model_copy(update={"n_epochs": 1, "batch_size": 16}),
            "evaluation": config.evaluation.model_copy(update={"max_tokens": 4}),
            "prompt": config.prompt.model_copy(update={"answer": "label"}),
        }
    )
    planned = finetuned_curve.plan(table, changed, tmp_path / "work")
    largest = planned.sizes[-1]
    assert planned.sizes == tuple(round(share * largest) for share in (0.25, 0.5, 0.75, 1))
    trained = [set(order.training_file.read_text().splitlines()) for order in planned.orders]
    assert trained[0] < trained[1] < trained[2] < trained[3]  # each is part of the next
    assert "4 fine-tuning jobs" in finetuned_curve.estimate(planned, changed)
    last = {name: getattr(planned, name)[2:] for name in ("sizes", "orders", "tokens")}
    planned = replace(planned, **last)  # two jobs show what four would
    before = len(list(server.client.fine_tuning.jobs.list()))
    curve = finetuned_curve.measure(planned, changed)
    assert [point.n for point in curve.measured] == list(planned.sizes)
    assert all(0 <= point.accuracy.value <= 1 for point in curve.measured)
    assert finetuned_curve.measure(planned, changed) == curve
    assert len(list(server.client.fine_tuning.jobs.list())) == before + 2  # the second pass found them again


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_the_page_opens_in_a_browser_and_asks_nobody(tmp_path: Path) -> None:
    page, log = tmp_path / "report.html", tmp_path / "net.json"
    html_report.write(diagnosed(invented(12), tmp_path), page)
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
        "--disable-background-networking", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
        f"--log-net-log={log}", "--dump-dom",
    ]  # fmt: skip
    shown = subprocess.run([str(CHROMIUM), *options, page.as_uri()], capture_output=True, text=True, timeout=120)
    for words in ("Likely label errors", "Too little data?", "36 rows of labelled reviews", "training reviews"):
        assert words in shown.stdout
    assert "{{" not in shown.stdout
    asked = {event["params"]["url"] for event in _events(log) if "url" in event.get("params", {})}
    assert {url for url in asked if url.startswith(("http", "//", "ws")) and "google" not in url} == set()
    text = page.read_text()
    for reference in ("src=", "url(http", "@import", "<link", "<script"):
        assert reference not in text


def _events(log: Path) -> list[dict[str, dict[str, str]]]:
    text = log.read_text().rstrip().rstrip(",")
    events: list[dict[str, dict[str, str]]] = json.loads(text if text.endswith("}") else text + "]}")["events"]
    return events
