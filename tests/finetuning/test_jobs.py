"""A job is found again by the key of its order."""

from pathlib import Path

from openai.types.fine_tuning import FineTuningJob

from reviewtune.core.config.config import Config
from reviewtune.core.project import ChatFiles
from reviewtune.finetuning.jobs import Order, order_key_of


def order(config: Config, folder: Path) -> Order:
    """An order with fixed files and settings."""
    files = ChatFiles(folder)
    files.training.write_text("training")
    files.validation.write_text("validation")
    provider = config.provider.model_copy(update={"kind": "openai", "base_url": None, "base_model": "some-model"})
    settings = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0, "seed": 13, "suffix": "reviews"}
    training = config.training.model_copy(update=settings)
    return Order.of(config.model_copy(update={"provider": provider, "training": training}), files)


def test_jobs_of_earlier_releases_are_found_again(config: Config, tmp_path: Path, tuned: FineTuningJob) -> None:
    """The key and its name in a job's metadata must not change: each changed key pays for a second job."""
    key = "4af1cb4073fabbdfe9a428c22c28f63c0f553de4f7f99557aae3b9a585648375"
    assert order(config, tmp_path).key == key
    assert order_key_of(tuned.model_copy(update={"metadata": {"run_key": key}})) == key
    assert order_key_of(tuned.model_copy(update={"metadata": None})) is None


def test_every_way_to_place_an_order_gives_the_same_key(config: Config, tmp_path: Path) -> None:
    files = ChatFiles(tmp_path)
    placed = order(config, tmp_path)
    same = config.model_copy(update={"provider": placed.provider, "training": placed.training})
    assert Order.for_files(same, training=files.training, validation=files.validation).key == placed.key
    assert Order.for_files(same, training=files.training, validation=None).key != placed.key
