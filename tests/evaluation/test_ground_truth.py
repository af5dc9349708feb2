"""`reviewtune evaluate`: any labelled file, the real server, and the classic mistake of testing on training data."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.commands.main import main
from reviewtune.core.atomic_files import write_json
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.result_file import write_result
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import sha256
from reviewtune.errors import DataError
from reviewtune.evaluation.ground_truth import read_ground_truth
from reviewtune.evaluation.metrics_file import read_metrics
from reviewtune.tracking.runs import open_run
from tests.support.projects import write_params
from tests.support.recorded import recorded
from tests.support.serving import ServerProcess


def labelled(config: Config, n: int, word: str) -> pd.DataFrame:
    labels = (list(config.data.labels) * n)[:n]
    texts = [
        f"{word} {i}: the {word} parcel number {i * i} made {word} trouble of kind {label}"
        for i, label in enumerate(labels)
    ]
    return pd.DataFrame({"review_text": texts, "manual_label": labels})


@pytest.fixture
def workspace(tmp_path: Path, project: Path, config: Config, server: ServerProcess, base: str) -> Path:
    """A project whose provider is the test server, with a model record that names chat files."""
    write_params(tmp_path, project, base_url=server.base_url, base_model=base)
    (tmp_path / "dvc.yaml").touch()
    shutil.copytree(project / "conf", tmp_path / "conf")
    prompt, trained = Prompt.of(config), labelled(config, 22, "trained")
    rows = trained.rename(columns={"review_text": "text", "manual_label": "label"})
    record = recorded(base, prompt, rows, tmp_path / "data" / "chat", checkpoints=[])
    write_result(record, tmp_path / "models" / "finetuned.json")
    trained.to_csv(tmp_path / "trained.csv", index=False)
    labelled(config, 12, "fresh").to_csv(tmp_path / "fresh.csv", index=False)
    return tmp_path


Evaluate = Callable[..., str]


@pytest.fixture
def evaluate(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """`reviewtune evaluate` in the workspace; returns its output, or its error message."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*options: str, ok: bool = True) -> str:
        monkeypatch.setattr(sys, "argv", ["reviewtune", "evaluate", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code in (0, None)) == ok, ended.value.code
        return capsys.readouterr().out if ok else str(ended.value.code)

    return run


def test_a_file_is_scored_and_compared_with_earlier_scores(workspace: Path, evaluate: Evaluate) -> None:
    old = {"accuracy": 0.5, "precision_weighted": 0.5, "recall_weighted": 0.5, "f1_weighted": 0.5}
    write_json(old, workspace / "baseline_metrics.json")
    shown = evaluate("--ground-truth", "fresh.csv", "--compare", "baseline_metrics.json", "--out", "result")
    assert "12 reviews" in shown
    assert "95 % interval" in shown
    assert all(word in shown for word in ("old", "new", "improvement", "50.0 %", "points", "does not say what it was"))
    metrics = json.loads((workspace / "result" / "metrics.json").read_text())
    assert metrics["test_sha256"] == sha256(workspace / "fresh.csv")
    again = evaluate("--ground-truth", "fresh.csv", "--compare", "result/metrics.json")
    assert "+0.0 points" in again
    assert "does not say what it was" not in again
    assert "under 5 reviews of" in again

    other = evaluate("--ground-truth", "trained.csv", "--compare", "result/metrics.json", ok=False)
    assert "was measured on another test set" in other


def test_the_record_and_not_the_name_says_whether_a_model_is_fine_tuned(
    workspace: Path, evaluate: Evaluate, base: str, config: Config
) -> None:
    """The recorded model's name does not begin with `ft:`, as at most providers."""
    shown = evaluate("--model", base, "--ground-truth", "fresh.csv", "--out", "tuned")
    assert "is not in models/finetuned.json" not in shown
    tuned = json.loads((workspace / "tuned" / "metrics.json").read_text())
    assert (tuned["kind"], tuned["prompt_fingerprint"]) == ("finetuned", Prompt.of(config).fingerprint)

    (workspace / "models" / "finetuned.json").unlink()
    shown = evaluate("--model", base, "--ground-truth", "fresh.csv", "--out", "base")
    assert " is not in models/finetuned.json: it is asked as a base model" in " ".join(shown.split())
    assert json.loads((workspace / "base" / "metrics.json").read_text())["kind"] == "prompt"

    shown = evaluate("--model", base, "--finetuned", "--ground-truth", "fresh.csv", "--out", "told")
    assert f"no record of the training of {base}: it may have seen these reviews" in " ".join(shown.split())
    told = json.loads((workspace / "told" / "metrics.json").read_text())
    assert (told["kind"], told["prompt_fingerprint"]) == ("finetuned", Prompt.of(config).fingerprint)


def test_a_file_with_the_training_rows_is_refused_by_name(workspace: Path, evaluate: Evaluate) -> None:
    shown = evaluate("--ground-truth", "trained.csv", ok=False)
    assert shown.startswith("error: 22 test reviews, or near-duplicates (cosine")
    assert "training_data.jsonl: line-2, line-3" in shown
    assert "\n" not in shown


def test_every_known_review_is_named_once_and_the_others_can_be_scored(workspace: Path, evaluate: Evaluate) -> None:
    fresh, trained = pd.read_csv(workspace / "fresh.csv"), pd.read_csv(workspace / "trained.csv").iloc[:7]
    trained["review_text"] = trained["review_text"].str.upper() + "!"  # near-duplicates
    pd.concat([trained, fresh]).to_csv(workspace / "mixed.csv", index=False)
    refused = evaluate("--ground-truth", "mixed.csv", ok=False)
    assert "7 test reviews, or near-duplicates" in refused
    lines = ", ".join(f"line-{number}" for number in range(2, 9))
    assert f"7 in training_data.jsonl: {lines}; 7 in validation_data.jsonl: {lines}; " in refused
    assert "use --leave-out-seen" in refused

    shown = " ".join(evaluate("--ground-truth", "mixed.csv", "--leave-out-seen", "--out", "rest").split())
    assert "12 reviews" in shown
    assert (
        f"7 of 19 reviews left out, because the model was trained with them or with near-duplicates: {lines}" in shown
    )
    metrics = read_metrics(workspace / "rest")
    assert (metrics.n, metrics.left_out_seen) == (12, 7)
    assert len(pd.read_csv(workspace / "rest" / "predictions.csv")) == 12

    everything = evaluate("--ground-truth", "trained.csv", "--leave-out-seen", ok=False)
    assert "the model has seen every review of the file (22)" in everything


def test_nothing_is_left_out_of_a_fresh_file(workspace: Path, evaluate: Evaluate) -> None:
    shown = evaluate("--ground-truth", "fresh.csv", "--leave-out-seen", "--out", "all")
    assert "left out" not in shown
    assert "left_out_seen" not in (workspace / "all" / "metrics.json").read_text()


def test_the_difference_has_an_interval_and_a_paired_test(workspace: Path, evaluate: Evaluate) -> None:
    evaluate("--ground-truth", "fresh.csv", "--out", "old")
    arguments = ("--ground-truth", "fresh.csv", "--compare", "old/metrics.json")
    shown = " ".join(evaluate(*arguments).split())
    assert "on 12 reviews of both evaluations: accuracy +0.0 points [+0.0, +0.0]" in shown
    assert "0 right only now, 0 right only before, McNemar's test p = 1.000: undecided" in shown
    (workspace / "old" / "predictions.csv").unlink()
    shown = " ".join(evaluate(*arguments).split())
    assert "the difference has no interval and no test: old/predictions.csv does not exist" in shown


def test_a_test_set_that_grew_is_compared_on_the_reviews_of_both(workspace: Path, evaluate: Evaluate) -> None:
    """The new reviews come first, so each line number, and with it each id, means another review."""
    evaluate("--ground-truth", "fresh.csv", "--out", "old")
    fresh, more = pd.read_csv(workspace / "fresh.csv"), labelled(load_params(workspace / "params.yaml"), 9, "later")
    fresh["review_text"] = fresh["review_text"].str.upper()
    pd.concat([more, fresh]).to_csv(workspace / "grown.csv", index=False)
    shown = " ".join(evaluate("--ground-truth", "grown.csv", "--compare", "old/metrics.json", "--out", "new").split())
    assert "21 reviews" in shown
    assert "old/metrics.json was measured on another test set" in shown
    assert "old and new are compared on the 12 reviews that both have, with the labels of now" in shown
    assert "on 12 reviews of both evaluations" in shown
    old, new = (pd.read_csv(workspace / name / "predictions.csv") for name in ("old", "new"))
    joined = old.merge(new, on="review_sha256_v1", suffixes=("_old", "_new"))
    assert len(joined) == 12
    right = [(joined[f"predicted_{when}"] == joined[f"label_{when}"]).mean() for when in ("old", "new")]
    table = re.search(r"Accuracy (\S+) % (\S+) % \S+ points", shown)
    assert table
    assert [float(share) for share in table.groups()] == [pytest.approx(100 * share, abs=0.06) for share in right]


def test_an_earlier_evaluation_may_be_a_stored_run(workspace: Path, evaluate: Evaluate) -> None:
    evaluate("--ground-truth", "fresh.csv", "--out", "old")
    with open_run(load_params().tracking, name="finetuned", kind="evaluation", tags={}) as run:
        for name in ("metrics.json", "predictions.csv"):
            run.artifact(Path("old") / name)
    shutil.rmtree("old")
    shown = " ".join(evaluate("--ground-truth", "fresh.csv", "--compare", run.id[:8]).split())
    assert "on 12 reviews of both evaluations: accuracy +0.0 points" in shown
    unknown = evaluate("--ground-truth", "fresh.csv", "--compare", "0" * 32, ok=False)
    assert "no run with that id" in unknown


def test_a_folder_that_cannot_be_made_is_refused_before_the_model_is_asked(
    workspace: Path, evaluate: Evaluate, answers: Path
) -> None:
    assert "--out fresh.csv: fresh.csv is not a folder" in evaluate(
        "--ground-truth", "fresh.csv", "--out", "fresh.csv", ok=False
    )
    assert not answers.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("note,label\nx,no_issue\n", "no column text or review_text or review; it has note, label"),
        (
            "text,label\nlate,no_issue\n , no_issue\nbad,quality\n",
            r"line 3: the review is empty; .* \(1 more such row: line 4\)",
        ),
        ("text,label\n", "no reviews below the header"),
    ],
)
def test_a_faulty_file_is_one_line(tmp_path: Path, config: Config, text: str, message: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_ground_truth(path, config.data)
    assert ("label 'quality' is not one of 11 labels" in caught.value.details) == ("quality" in text)


def test_the_reader_is_that_of_the_pipeline(tmp_path: Path, config: Config) -> None:
    """Semicolons, empty rows and decomposed or invisible characters do not stop an evaluation."""
    path = tmp_path / "truth.csv"
    path.write_bytes("sep=;\r\ntext;label\u200b\r\n;\r\nlate; no_issue\u200b\r\n".encode("utf-16"))
    truth = read_ground_truth(path, config.data)
    assert truth.reviews.to_dict("records") == [{"review_id": "line-4", "text": "late", "label": "no_issue"}]
    assert truth.skipped.endswith("truth.csv: 1 empty row skipped")


def test_a_model_of_masked_reviews_is_asked_with_masked_ones(tmp_path: Path, config: Config) -> None:
    """As every application asks it; else personal data would reach the provider, and other texts would be measured."""
    path = tmp_path / "truth.csv"
    path.write_text("text,label\nWrite to jane.doe@example.com,no_issue\n")
    masked = read_ground_truth(path, config.data.model_copy(update={"mask_personal": True}))
    assert "jane.doe" not in masked.reviews["text"][0]
    assert "jane.doe@example.com" in read_ground_truth(path, config.data).reviews["text"][0]


def test_any_column_of_the_file_gives_slices(workspace: Path, evaluate: Evaluate) -> None:
    table = pd.read_csv(workspace / "fresh.csv")
    table["shop"], table["answer"] = ["north", "south", "south"] * 4, "yes"
    table.to_csv(workspace / "shops.csv", index=False)
    shown = evaluate("--ground-truth", "shops.csv", "--slice", "shop")
    assert "Accuracy, shop=north (4)" in shown
    assert "Accuracy, shop=south (8)" in shown
    for name in ("street", "manual_label", "answer"):
        refused = evaluate("--ground-truth", "shops.csv", "--slice", name, ok=False)
        assert f"cannot be sliced by '{name}'; possible columns: shop" in refused


@pytest.mark.parametrize("name", ["label_second", "as_answered", "prompt_tokens"])
def test_a_column_that_the_pipeline_writes_is_not_a_slice(tmp_path: Path, config: Config, name: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(f"text,label,{name}\nlate,no_issue,no_issue\n")
    with pytest.raises(DataError, match=f"cannot be sliced by '{name}'; possible columns: none"):
        read_ground_truth(path, config.data, [name])


def test_slices_that_the_file_lacks_are_left_out(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("review_id,text,label\n7,late again,no_issue\n")
    truth = read_ground_truth(path, config.data)
    assert truth.data.slices == ()
    assert truth.reviews.to_dict("records") == [{"review_id": "7", "text": "late again", "label": "no_issue"}]


def test_ids_that_repeat_name_no_review(tmp_path: Path, config: Config) -> None:
    """A column that is called id may be that of an order; a declared one must be right."""
    table = labelled(config, 6, "fresh").assign(id=["A1", "A1", "A2", "A2", "", "A3"])
    table.to_csv(tmp_path / "orders.csv", index=False)
    assert read_ground_truth(tmp_path / "orders.csv", config.data).reviews["review_id"].is_unique
    columns = config.data.columns.model_copy(update={"id": "id"})
    with pytest.raises(DataError, match="several rows have the review id 'A1'; make the ids unique"):
        read_ground_truth(tmp_path / "orders.csv", config.data.model_copy(update={"columns": columns}))
