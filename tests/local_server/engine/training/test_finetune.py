"""Fine-tuning: what is learned, and that equal inputs give equal weights, even if a training is cut off."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from reviewtune.errors import DataError
from reviewtune.local_server.engine.adapter_files import is_adapter
from reviewtune.local_server.engine.generation import generate
from reviewtune.local_server.engine.training import finetune, recipes
from reviewtune.local_server.engine.training.losses import token_loss
from reviewtune.local_server.engine.training.recipes import Recipe
from reviewtune.local_server.engine.types import (
    RESUME,
    ChatMessage,
    CheckpointSaved,
    DiskFull,
    GenerationRequest,
    Hyperparameters,
    News,
    StepMetrics,
    TrainingSpec,
)
from tests.support.disks import fill, small_disk
from tests.support.engine_models import SCHEMA, asked, chat_file, line, one_thread, real, tiny, write

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread", "small_disk"]
ANSWER = ChatMessage("assistant", '{"label": "no_issue"}')


@pytest.fixture(params=[(None, 0.0), (16, 0.0), (16, 0.5)], ids=["whole", "adapter", "averaged adapter"])
def spec(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingSpec:
    """A training of the upper layers' own weights, one of a low-rank adapter of them, and one with averaged weights."""
    rank, average = request.param
    recipe = Recipe(learning_rate=2e-2 if rank else 1e-2, frozen_layers=0.5, dropout=0.1, rank=rank, average=average)
    monkeypatch.setitem(recipes.RECIPES, "gemma3_text", recipe)
    files = chat_file(tmp_path / "train.jsonl", repeats=2), chat_file(tmp_path / "valid.jsonl")
    return TrainingSpec(tiny(), *files, tmp_path / "out", seed=1, n_epochs=3, batch_size=4)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / ("adapter_model.safetensors" if is_adapter(folder) else "model.safetensors"))


def same(first: Path, second: Path) -> bool:
    a, b = weights_of(first), weights_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_falls_and_checkpoints_are_models(spec: TrainingSpec) -> None:
    news: list[News] = []
    result = finetune.train(spec, news.append)
    steps = [item for item in news if isinstance(item, StepMetrics)]
    saved = [item for item in news if isinstance(item, CheckpointSaved)]
    assert [item.step for item in steps] == list(range(1, 16))
    assert {item.total_steps for item in steps} == {result.steps} == {15}
    assert steps[-1].train_loss < steps[0].train_loss
    # On all validation examples: a step's batch has nine tokens, of which one or two decide.
    assert (steps[-1].full_valid_mean_token_accuracy or 0) > 0.5 > steps[0].train_mean_token_accuracy
    assert [item.metrics.epoch for item in saved] == [1, 2, 3]
    assert all(item.metrics.full_valid_loss is not None for item in saved)
    assert [item.folder.name for item in saved] == ["step-5", "step-10", "step-15"]
    assert same(result.folder, saved[-1].folder)
    assert not same(result.folder, saved[0].folder)
    assert result.hyperparameters == Hyperparameters(3, 4, 1.0)
    assert result.trained_tokens % 3 == 0
    assert [file.name for file in spec.output.glob("*resume*")] == [RESUME]  # until the server has recorded the result


def test_lower_layers_and_embeddings_do_not_change(spec: TrainingSpec) -> None:
    """All weights are saved where the base model may be deleted, and to compare them here."""
    before = weights_of(spec.base)
    after = weights_of(finetune.train(replace(spec, whole=True), lambda _: None).folder)
    changed = {name for name in after if not torch.equal(after[name], before[name].to(torch.bfloat16))}
    assert changed
    assert all(name.startswith(("model.layers.1.", "model.norm.")) for name in changed)


def test_equal_inputs_give_equal_weights(spec: TrainingSpec, tmp_path: Path) -> None:
    first = finetune.train(spec, lambda _: None).folder
    assert same(first, finetune.train(replace(spec, output=tmp_path / "again"), lambda _: None).folder)
    assert not same(first, finetune.train(replace(spec, output=tmp_path / "other", seed=2), lambda _: None).folder)


def test_the_last_weights_are_averaged(tmp_path: Path) -> None:
    """Six steps, of which the last three count: the mean of what another training has after each of them."""
    recipe = Recipe(learning_rate=1e-2, frozen_layers=0.5, n_epochs=2, batch_size=4, rank=4)
    spec = TrainingSpec(tiny(), chat_file(tmp_path / "train.jsonl"), None, tmp_path / "out", seed=1)
    plain = finetune.TrainingRun(spec, recipe)
    after = [
        {name: weight.detach().clone() for name, weight in plain.masters.named.items()}
        for news in plain.run()
        if isinstance(news, StepMetrics)
    ]
    run = finetune.TrainingRun(replace(spec, output=tmp_path / "mean"), replace(recipe, average=0.5))
    list(run.run())
    assert len(after) == 6
    for name, weight in run.masters.named.items():
        assert torch.allclose(weight, sum((step[name] for step in after[3:]), torch.zeros(())) / 3, atol=1e-6)
        assert not torch.allclose(weight, after[-1][name], atol=1e-6)


def test_a_resumed_training_ends_with_the_same_weights(spec: TrainingSpec, tmp_path: Path) -> None:
    class Cut(Exception):  # noqa: N818 - not an error
        pass

    def cut(news: News) -> None:
        if isinstance(news, StepMetrics) and news.step == 12:
            raise Cut

    with pytest.raises(Cut):
        finetune.train(spec, cut)
    steps: list[int] = []
    resumed = finetune.train(spec, lambda news: steps.append(news.step) if isinstance(news, StepMetrics) else None)
    assert steps == [11, 12, 13, 14, 15]
    assert same(resumed.folder, finetune.train(replace(spec, output=tmp_path / "straight"), lambda _: None).folder)


def test_a_fine_tune_can_be_fine_tuned(spec: TrainingSpec, tmp_path: Path) -> None:
    once = finetune.train(replace(spec, n_epochs=1), lambda _: None).folder
    start = replace(spec, adapter=once) if is_adapter(once) else replace(spec, base=once)
    twice = finetune.train(replace(start, output=tmp_path / "more", n_epochs=1), lambda _: None).folder
    assert is_adapter(twice) == is_adapter(once)
    assert not same(once, twice)


def test_a_full_disk_makes_a_training_wait(
    spec: TrainingSpec, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "DISK_SECONDS", 0.01)
    ballast, waited = small_disk / "ballast", []

    def report(news: News) -> None:
        if isinstance(news, StepMetrics) and news.step == 6:
            fill(ballast)
        if isinstance(news, DiskFull):
            waited.append(sorted(path.name for path in (small_disk / "out" / "checkpoints").iterdir()))
            ballast.unlink(missing_ok=True)

    folder = finetune.train(replace(spec, output=small_disk / "out"), report).folder
    assert waited == [["step-5"]]  # nothing half written takes space
    assert same(folder, finetune.train(replace(spec, output=tmp_path / "straight"), lambda _: None).folder)


def test_auto_is_the_recipe(spec: TrainingSpec) -> None:
    auto = replace(spec, n_epochs=None, batch_size=None, learning_rate_multiplier=None)
    assert finetune.resolve(auto) == Hyperparameters(n_epochs=3, batch_size=16, learning_rate_multiplier=1.0)
    assert finetune.resolve(replace(auto, learning_rate_multiplier=0.5)).learning_rate_multiplier == 0.5


GOOD = line((*asked("Fine."), ANSWER))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": "x"}, r"line 2: messages: Field required"),
        ({"messages": []}, r"line 2: messages: List should have at least 1 item"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"line 2: messages.0.role: .* 'system'"),
        (
            {"messages": [{"role": "user", "content": None}]},
            r"line 2: messages.0.content: expected a string, but",
        ),
        (line(asked("No answer.")), r"line 2: there is no assistant message to learn from"),
        (
            {"messages": [*GOOD["messages"][:-1], {**GOOD["messages"][-1], "weight": 0}]},
            r"line 2: all assistant messages have the weight 0",
        ),
        (line((*asked("long " * 600), ANSWER)), r"line 2: 6\d\d tokens, the model's context holds 512"),
    ],
)
def test_errors_name_their_line(spec: TrainingSpec, tmp_path: Path, bad: object, message: str) -> None:
    file = write(tmp_path / "bad.jsonl", [GOOD, bad])
    with pytest.raises(DataError, match=message):
        finetune.train(replace(spec, training_file=file), lambda _: None)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_token_loss_is_cross_entropy(smoothing: float) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(100, 16, requires_grad=True), torch.randn(1000, 16)
    targets = torch.randint(1000, (100,))
    learned = functional.cross_entropy(hidden @ weight.T, targets, reduction="sum", label_smoothing=smoothing)
    (expected,) = torch.autograd.grad(learned, hidden)
    sums = token_loss(hidden, weight, targets, smoothing)
    (gradient,) = torch.autograd.grad(sums.loss, hidden)
    torch.testing.assert_close(gradient, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(sums.loss, functional.cross_entropy(hidden @ weight.T, targets, reduction="sum"))
    assert int(sums.correct) == int(((hidden @ weight.T).argmax(-1) == targets).sum())


def test_label_smoothing_trains_less_certain_answers(spec: TrainingSpec, tmp_path: Path) -> None:
    recipe = Recipe(learning_rate=0.5, frozen_layers=0.5, n_epochs=30)  # until it is certain of its answers
    losses: list[float] = []
    for smoothing in (0.0, 0.3):
        smoothed = replace(spec, output=tmp_path / str(smoothing), n_epochs=None)
        run = finetune.TrainingRun(smoothed, replace(recipe, label_smoothing=smoothing))
        losses.append([news.train_loss for news in run.run() if isinstance(news, StepMetrics)][-1])
    assert losses[1] > losses[0] + 0.2  # reported without the smoothing, so certain answers have the lower loss


def test_a_real_model_learns_its_examples(tmp_path: Path) -> None:
    base = real("smollm2-135m-instruct")
    file = chat_file(tmp_path / "train.jsonl")
    spec = TrainingSpec(base, file, None, tmp_path / "out", seed=1, n_epochs=6, batch_size=3)
    losses: list[float] = []
    tuned = finetune.train(spec, lambda news: losses.append(news.train_loss) if isinstance(news, StepMetrics) else None)
    assert losses[-1] < losses[0] / 5
    requests = [
        GenerationRequest(asked(text), temperature=0, schema=SCHEMA)
        for text in ("Three weeks late.", "The cup came in pieces.", "Lovely, thanks!")
    ]
    before, after = (generate.load(folder).complete(requests) for folder in (base, tuned.folder))
    assert [result.choices for result in before] != [result.choices for result in after]
    assert [result.choices[0].text for result in after] == [
        f'{{"label": "{label}"}}' for label in ("delivery_delay", "damaged_item", "no_issue")
    ]


def test_bf16_gives_similar_losses(spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision on a GPU, and on a CPU with AMX."""
    exact, fast = [], []
    finetune.train(spec, lambda news: exact.append(news) if isinstance(news, StepMetrics) else None)
    for module in (finetune, generate):
        monkeypatch.setattr(module, "fast_precision", lambda _: torch.bfloat16)
    other = replace(spec, output=spec.output.with_name("bf16"))
    tuned = finetune.train(other, lambda news: fast.append(news) if isinstance(news, StepMetrics) else None)
    assert fast[0].train_loss == pytest.approx(exact[0].train_loss, rel=0.01)
    assert fast[-1].train_loss == pytest.approx(exact[-1].train_loss, rel=0.05)
    request = GenerationRequest(asked("Three weeks late."), temperature=0, schema=SCHEMA, logprobs=True)
    assert generate.load(tuned.folder).complete([request])[0].choices[0].finish_reason == "stop"
