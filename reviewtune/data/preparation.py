"""The steps prepare, split and format of the pipeline: from a labelled CSV to chat files for a fine-tuning job.

Stages, sweep jobs and `check-data --finetune` all call these functions, each with its own paths. Equal settings and
data therefore give equal files, and equal files are one fine-tuning job.
"""

from pathlib import Path
from typing import NamedTuple

from reviewtune.core.config.config import Config
from reviewtune.core.project import ChatFiles, SplitFiles
from reviewtune.data import splits
from reviewtune.data.chat import chat_files
from reviewtune.data.chat.chat_files import ChatFile
from reviewtune.data.frozen_splits import divide
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import Prepared, prepare, read_reviews, write_reviews
from reviewtune.data.sides.frozen_file import read_frozen
from reviewtune.data.splits import Splits


class CheckedChat(NamedTuple):
    """Both chat files, after the check against the provider's rules."""

    training: ChatFile
    validation: ChatFile

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.training.warnings, *self.validation.warnings)


def write_labeled(config: Config, source: Path, target: Path) -> Prepared:
    """Step prepare: check the labelled reviews, mask and merge them, and write one normalised table.

    Args:
        config: its section `data` is used.
        source: the CSV that section `data` describes.
        target: the table to write.

    Raises:
        DataError: as `reviews.prepare`.
    """
    prepared = prepare(source, config.data)
    write_reviews(prepared.reviews, target)
    return prepared


def write_splits(config: Config, labeled: Path, files: SplitFiles, *, frozen: Path) -> tuple[str, ...]:
    """Step split: write train, validation and test split and their manifest.

    Args:
        config: its section `split`, data.train_size, data.language and data.name are used.
        labeled: the table that `write_labeled` wrote.
        files: the files to write.
        frozen: the project's data/frozen_splits.csv.

    Returns:
        Notes that the caller must report, such as reviews that were left out.

    Raises:
        DataError: as `frozen_splits.divide` and `frozen_file.read_frozen`.
    """
    division = divide(read_reviews(labeled), config, read_frozen(frozen))
    splits.write_splits(division.parts, files.folder, source=labeled, settings=config.split)
    return division.notes


def read_splits(files: SplitFiles) -> Splits:
    """The splits that `write_splits` wrote."""
    return Splits(*(read_reviews(path) for path in (files.train, files.valid, files.test)))


def write_chat(config: Config, parts: SplitFiles, chat: ChatFiles) -> CheckedChat:
    """Step format: write the chat files of the training and the validation split, and check them.

    Args:
        config: its section `prompt` and the labels are used.
        parts: the splits to read.
        chat: the files to write.

    Returns:
        The size of each file, and warnings that the caller must report.

    Raises:
        DataError: as `chat_files.check`.
    """
    prompt = Prompt.of(config)
    for part, path in zip((parts.train, parts.valid), chat.both, strict=True):
        chat_files.write_lines(path, chat_files.lines_of(read_reviews(part), prompt))
    return CheckedChat(*(chat_files.check(path, prompt) for path in chat.both))
