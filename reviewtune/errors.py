"""Every error that a user may meet, and the one way it leaves a program.

ReviewtuneError
├── ConfigError      conf/, params.yaml or an override
├── DataError        the labelled reviews or a file made from them
├── LeakError        a test review is known to the model or its prompt
├── ProviderError    key, address, model, limits: the other end of the wire
│   └── JobError     a fine-tuning job that ended without a model
├── BudgetError      the next request could cost more than budget_usd leaves
├── CacheError       the store of answers
└── TrackingError    the MLflow store

A message says what was seen and where, what is allowed, and what to do next, in one line.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # exit status after Ctrl-C
GO_ON = "interrupted: run the same command again to continue"


class ReviewtuneError(Exception):
    """Base of all errors that are the user's to mend; shown without a traceback.

    One line, whatever line breaks a stranger's file puts into the message.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(message.split()))


class ConfigError(ReviewtuneError):
    """conf/, params.yaml or an override is wrong; the message lists every fault with its dotted path."""


class DataError(ReviewtuneError):
    """The labelled reviews, or a file made from them, cannot be used."""


class LeakError(ReviewtuneError):
    """A test review, or a near-duplicate of one, is known to the model or its prompt."""


class ProviderError(ReviewtuneError):
    """The provider cannot be reached, refuses the key, or does not know the model."""


class JobError(ProviderError):
    """A fine-tuning job failed, was cancelled, or ended without a model."""


class BudgetError(ReviewtuneError):
    """What comes next could cost more than `evaluation.budget_usd` leaves; it was not sent."""


class CacheError(ReviewtuneError):
    """The store of answers cannot be opened or written."""


class TrackingError(ReviewtuneError):
    """The MLflow store cannot be opened or written."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the user's errors into one line on stderr and exit status 1; Ctrl-C into 130."""
    try:
        yield
    except ReviewtuneError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(GO_ON, file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: {error.strerror or error}{where}: mend that, then run the same command again")
