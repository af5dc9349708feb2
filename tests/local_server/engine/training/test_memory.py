"""The memory of a training: the same gradients with less of it, and a plan or a clear refusal before it starts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.adapter_files import WEIGHTS
from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.model_loading import device, load_weights, without_weights
from reviewtune.local_server.engine.training import finetune, frozen_layers, memory, recipes
from reviewtune.local_server.engine.training.frozen_layers import PACK, ExampleSet, UpperLayers
from reviewtune.local_server.engine.training.losses import token_loss
from reviewtune.local_server.engine.training.memory import Load, Plan, Sizes
from reviewtune.local_server.engine.training.packing import Example
from reviewtune.local_server.engine.training.recipes import Recipe
from reviewtune.local_server.engine.types import CheckpointSaved, News, StepMetrics, TrainingSpec
from tests.support.engine_models import chat_file, one_thread, tiny, write

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
GB = 10**9
REVIEWS = Load(batch=600, longest=120, prefix=20, sets=(40_000,))
LONG = Load(batch=8 * 1900, longest=1900, prefix=20, sets=(800_000,))
EXAMPLES = [Example(tuple(range(40, 40 + length)), (False,) * (length - 3) + (True,) * 3) for length in (30, 50, 20)]


def qwen(rank: int | None = 16) -> Sizes:
    """A Qwen2 of 7.6 billion weights in bf16."""
    config = Qwen2Config(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152064,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return memory.sizes_of(AutoModelForCausalLM.from_config(config), 14, rank, torch.bfloat16)


def gradients(recompute: bool, frozen: int) -> dict[str, torch.Tensor]:
    model = load_weights(tiny(), torch.float32, ATTENTION)
    layers = UpperLayers(model, frozen, dropout=0.2, recompute=recompute)
    examples = ExampleSet(EXAMPLES, prefix=0)
    torch.manual_seed(1)
    for pack in examples.packs(range(3), model.device):
        torch.autograd.backward(token_loss(layers.hidden(pack, examples), model.head, pack.targets).loss)
    return {name: weight.grad for name, weight in layers.trained.items() if weight.grad is not None}


@pytest.mark.parametrize("frozen", [0, 1])
def test_recomputing_gives_equal_gradients(frozen: int) -> None:
    plain, again = gradients(False, frozen), gradients(True, frozen)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_recomputing_keeps_less() -> None:
    def kept(recompute: bool) -> int:
        model = load_weights(tiny(), torch.float32, ATTENTION)
        layers, examples = UpperLayers(model, 0, recompute=recompute), ExampleSet(EXAMPLES, prefix=0)
        tensors: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                tensors[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            states = [layers.hidden(pack, examples) for pack in examples.packs(range(3), model.device)]
        assert states
        return sum(tensors.values())

    assert kept(recompute=True) < kept(recompute=False) / 3


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingSpec:
    recipe = Recipe(learning_rate=1e-2, frozen_layers=0.0, dropout=0.1, rank=4)
    monkeypatch.setitem(recipes.RECIPES, "gemma3_text", recipe)
    return TrainingSpec(
        tiny(), chat_file(tmp_path / "train.jsonl"), None, tmp_path / "out", 1, n_epochs=2, batch_size=4
    )


class Cut(Exception):  # noqa: N818 - not an error
    """A training is cut off."""


def cut(news: News) -> None:
    """End a training after its first checkpoint."""
    if isinstance(news, CheckpointSaved):
        raise Cut


def test_recomputing_ends_with_the_same_weights_also_when_resumed(
    spec: TrainingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = finetune.train(replace(spec, output=tmp_path / "straight"), lambda _: None).folder
    with pytest.raises(Cut):
        finetune.train(spec, cut)
    enough = enough_for(spec, Plan(recompute=True, pack=PACK))
    monkeypatch.setattr(memory, "available_memory", lambda _: enough)
    assert finetune.TrainingRun(spec).plan == Plan(recompute=True, pack=PACK)
    resumed = finetune.train(spec, lambda _: None).folder
    assert (resumed / WEIGHTS).read_bytes() == (straight / WEIGHTS).read_bytes()


def test_smaller_packs_learn_the_same(spec: TrainingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_dropout = replace(recipes.RECIPES["gemma3_text"], dropout=0.0)
    monkeypatch.setitem(recipes.RECIPES, "gemma3_text", without_dropout)
    losses: dict[int, list[float]] = {}
    for pack in (PACK, 64):
        monkeypatch.setattr(memory, "choose", lambda *_, pack=pack: Plan(recompute=False, pack=pack))
        news: list[News] = []
        finetune.train(replace(spec, output=tmp_path / f"packs of {pack}"), news.append)
        losses[pack] = [item.train_loss for item in news if isinstance(item, StepMetrics)]
    assert losses[64] == pytest.approx(losses[PACK], rel=1e-3)
    assert len(losses[64]) == 6


def test_a_training_resumes_with_the_packs_that_it_began_with(
    spec: TrainingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much memory is free may have changed in the meantime."""

    monkeypatch.setattr(memory, "choose", lambda *_: Plan(recompute=False, pack=64))
    straight = finetune.train(replace(spec, output=tmp_path / "straight"), lambda _: None).folder
    with pytest.raises(Cut):
        finetune.train(spec, cut)
    monkeypatch.setattr(memory, "choose", lambda *_: Plan(recompute=False, pack=PACK))
    steps: list[int] = []
    resumed = finetune.train(spec, lambda news: steps.append(news.step) if isinstance(news, StepMetrics) else None)
    assert steps == [4, 5, 6]
    assert (resumed.folder / WEIGHTS).read_bytes() == (straight / WEIGHTS).read_bytes()


def test_a_training_with_other_settings_leaves_no_old_checkpoints(spec: TrainingSpec) -> None:
    finetune.train(spec, lambda _: None)
    finetune.train(replace(spec, n_epochs=1, batch_size=9), lambda _: None)
    assert [folder.name for folder in (spec.output / "checkpoints").iterdir()] == ["step-1"]


def test_the_estimate_counts_each_set_whose_states_are_kept() -> None:
    """Together they may be too large to be kept, although each is kept."""
    sizes = qwen()
    most = frozen_layers.CACHE_BYTES // 4 // sizes.width
    one, two, too_large = (REVIEWS._replace(sets=sets) for sets in ((most,), (most, most), (most + 1, most)))
    needs = [memory.need(sizes, load, Plan(False, PACK)) for load in (one, two, too_large)]
    assert needs[1] - needs[0] == most * sizes.width * sizes.number
    assert needs[2] == needs[0]


def enough_for(spec: TrainingSpec, plan: Plan) -> int:
    """Just enough memory to train in this way."""
    run = finetune.TrainingRun(replace(spec, output=spec.output.with_name("unused")))
    sizes = memory.sizes_of(without_weights(spec.base), 0, 4, run.model.network.dtype)
    return memory.need(sizes, memory.load_of((run.training, run.validation), 4), plan)


def test_seven_billion_weights_are_counted() -> None:
    sizes = qwen()
    assert sizes.weight_bytes == 2 * 7_615_616_512
    assert sizes.trained == 14 * 16 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944))
    assert sizes.outputs == 2 * 3584 + 2 * 512 + 2 * 18944 + 3584
    assert qwen(rank=None).trained == 14 * 233_057_792  # of the model card: 6.53 billion without embeddings, 28 layers


@pytest.mark.parametrize(
    ("load", "available", "plan"),
    [
        (REVIEWS, None, Plan(False, PACK)),  # unknown, as on MPS
        (REVIEWS, 80 * GB, Plan(False, PACK)),
        (REVIEWS, 24 * GB, Plan(False, PACK)),  # short reviews need little beside the weights
        (LONG, 80 * GB, Plan(False, PACK)),
        (LONG, 24 * GB, Plan(True, PACK)),
    ],
)
def test_the_fastest_way_that_fits_is_chosen(load: Load, available: int | None, plan: Plan) -> None:
    assert memory.choose(qwen(), load, available) == plan


def test_each_plan_needs_less_than_the_one_before() -> None:
    plans = [Plan(False, PACK), *(Plan(True, pack) for pack in memory.PACKS)]
    many_short = Load(batch=64 * 100, longest=100, prefix=20, sets=(400_000,))
    needs = [memory.need(qwen(), many_short, plan) for plan in plans]
    assert needs == sorted(needs, reverse=True)
    assert [memory.choose(qwen(), many_short, least) for least in needs] == plans


def test_too_little_memory_is_refused_in_one_line() -> None:
    with pytest.raises(ProviderError) as refused:
        memory.choose(qwen(), REVIEWS, 8 * GB)
    text = str(refused.value)
    assert "15.2 GB for the weights" in text
    assert "but only 8.0 GB is available; use a smaller base model, or end other programs" in text
    assert "\n" not in text


def test_nearly_enough_memory_is_tried_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert memory.choose(qwen(), REVIEWS, 15 * GB) == Plan(True, memory.PACKS[-1])
    assert "but only 15.0 GB is available" in caplog.text


def test_a_job_without_memory_fails_before_the_weights_are_read(
    spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda _: GB // 100)
    with pytest.raises(ProviderError, match=r"this training needs about 0\.\d GB of memory"):
        finetune.train(spec, lambda _: None)
    assert not spec.output.exists()


def test_a_gpu_whose_memory_runs_out_gives_one_line(spec: TrainingSpec) -> None:
    def full(_: News) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ...")

    with pytest.raises(ProviderError, match=r"^the GPU's memory ran out during the training .*; end other programs"):
        finetune.train(spec, full)


@pytest.mark.parametrize(
    ("limit", "expected"), [("4000", [4000 - 3000 + 500]), ("max", [])], ids=["limited", "unlimited"]
)
def test_a_container_may_use_less_than_the_machine_has(tmp_path: Path, limit: str, expected: list[int]) -> None:
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2500\nfile 500\nkernel 0\n")
    assert memory._left_in_container(tmp_path) == expected


def test_the_memory_of_this_machine_is_known() -> None:
    place = device()
    available = memory.available_memory(place)
    assert available is None or 0 < available < 2**50
    assert memory.peak_memory(place) > 0


@pytest.mark.parametrize(
    ("family", "layers", "rank"), [("llama", 30, None), ("llama", 32 * 40, 16), ("phi3", 30, 16), ("qwen2", 30, 16)]
)
def test_adapters_are_trained_for_unknown_families_and_large_networks(
    tmp_path: Path, family: str, layers: int, rank: int | None
) -> None:
    sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": layers, "vocab_size": 49152}
    write(tmp_path / "config.json", [{"model_type": family, **sizes}])
    assert recipes.recipe_for(tmp_path).rank == rank
