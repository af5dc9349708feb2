"""Make the parts of blocks: here, one after the other, or wherever else a `MakeParts` does it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reviewtune.analyzer.classifier import Classifier, Outcome
from reviewtune.bulk.blocks import Block, Position
from reviewtune.bulk.part_progress import PartProgress
from reviewtune.bulk.parts import Format, Part, make_part
from reviewtune.bulk.window import in_order
from reviewtune.core.terminal.progress import Progress, Step


class Place(NamedTuple):
    """Which part a block becomes, without the block.

    Attributes:
        name: of the part.
        files: indices of the files with its rows.
        end: the position after its last row.
    """

    name: str
    files: tuple[int, ...]
    end: Position

    @classmethod
    def of(cls, name: str, block: Block) -> "Place":
        return cls(name, tuple(sorted({index for index, _ in block.rows})), block.end)


@dataclass(frozen=True)
class PartMaker:
    """Makes a part of a block. It can be pickled, so that another machine makes the same part.

    Args:
        classifier: what classifies.
        names: of the files.
        keep: columns whose values are copied.
        kind: the format.
    """

    classifier: Classifier
    names: tuple[str, ...]
    keep: tuple[str, ...]
    kind: Format

    def outcomes(self, block: Block, progress: Progress) -> list[Outcome | None]:
        """The outcome of each row; None for a row that could not be read, about which no model is asked.

        Raises:
            ProviderError: the provider failed.
            BudgetError: the next request could cost more than is left.
        """
        texts = [row.text for _, row in block.rows if row.fault is None]
        answers = iter(self.classifier.classify(texts, cache=True, progress=progress))
        return [next(answers) if row.fault is None else None for _, row in block.rows]

    def part(self, block: Block, outcomes: Sequence[Outcome | None]) -> Part:
        return make_part(block, outcomes, self.names, self.keep, self.kind)


Made = tuple[Place, Part]
MakeParts = Callable[[PartMaker, Iterator[tuple[str, Block]], Progress, Step], Iterator[Made]]
"""Makes the parts of blocks with these names, in any order; takes a block only when there is room for one."""


def make_here(maker: PartMaker, named: Iterator[tuple[str, Block]], progress: Progress, step: Step) -> Iterator[Made]:
    """Make the parts in order, in this process; at most three blocks are in memory."""

    def outcomes(item: tuple[str, Block]) -> list[Outcome | None]:
        reported = PartProgress(progress, step)
        known = maker.outcomes(item[1], reported)
        reported.end(len(known))
        return known

    for (name, block), known in in_order(named, outcomes, name="reviewtune classifies"):
        yield Place.of(name, block), maker.part(block, known)
