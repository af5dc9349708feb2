"""All errors that a user may see, and how a program ends with one.

ReviewtuneError
├── ConfigError      conf/, params.yaml or an override
├── DataError        the labelled reviews or a file made from them
├── LeakError        a test review is in the training data or in a prompt
├── ProviderError    key, address, model or limits of a provider
│   └── JobError     a fine-tuning job that ended without a model
├── BudgetError      the next request could exceed budget_usd
├── CacheError       the cache of answers
├── TrackingError    the MLflow store
└── GitError         the project's history

A message is one line: what was seen and where, what is allowed, and what to do next.
"""

import errno
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130  # exit status after Ctrl-C
INTERRUPTED_MESSAGE = "interrupted: run the same command again to continue"
REMEDIES = {
    errno.ENOSPC: "free some space, `reviewtune clean` shows what could go",
    errno.EDQUOT: "free some space, `reviewtune clean` shows what could go",
    errno.EACCES: "change its permissions or name another place",
    errno.EPERM: "change its permissions or name another place",
    errno.EROFS: "make it writable or name another place",
    errno.EMFILE: "close programs or raise the limit with `ulimit -n 4096`",
}
"""What to do about an error of the operating system."""


class ReviewtuneError(Exception):
    """Base of all errors that the user can fix; printed without a traceback.

    The message is one line: line breaks, for example from a quoted file, become spaces.

    Args:
        message: what was seen and where, what is allowed, and what to do next.
        details: lines of text that a command prints before the message, such as a table of faulty rows.
    """

    def __init__(self, message: str = "", *, details: str = "") -> None:
        super().__init__(" ".join(message.split()))
        self.details = details


class ConfigError(ReviewtuneError):
    """conf/, params.yaml or an override is wrong; the message lists every fault with its dotted path."""


class DataError(ReviewtuneError):
    """The labelled reviews, or a file made from them, cannot be used."""


class LeakError(ReviewtuneError):
    """A test review, or a near-duplicate of one, is in the training data or in a prompt."""


class ProviderError(ReviewtuneError):
    """The provider cannot be reached, refuses the key, or does not know the model."""


class JobError(ProviderError):
    """A fine-tuning job failed, was cancelled, or ended without a model."""


class BudgetError(ReviewtuneError):
    """The next request could exceed `evaluation.budget_usd`; it was not sent."""


class CacheError(ReviewtuneError):
    """The cache of answers cannot be opened or written."""


class TrackingError(ReviewtuneError):
    """The MLflow store cannot be opened or written."""


class GitError(ReviewtuneError):
    """git is missing, refused, or knows only a part of the history."""


def installing(*extras: str, python: str = "pip") -> str:
    """The pip command that adds extras of pyproject.toml to this installation, between backticks.

    reviewtune is in no package index, so the command names the folder, wheel or repository that it came from.

    Args:
        *extras: such as "app".
        python: its path, for a command that must not reach another Python.
    """
    pip = "pip" if python == "pip" else f"{python} -m pip"
    names, source = f"[{','.join(extras)}]", _source()
    if source is None:
        return f"`{pip} install '.{names}'` in a clone of reviewtune"
    return f"`{pip} install '{source.replace('[]', names)}'`"


def _source() -> str | None:
    """Where this installation came from, as pip takes it, with `[]` for the extras; None: that is not known.

    pip notes it in direct_url.json (PEP 610). Not every description of the package has that file: setuptools leaves one
    without it in a clone, reviewtune.egg-info, which Python finds first.
    """
    from importlib.metadata import distributions
    from urllib.parse import unquote, urlsplit

    texts = (found.read_text("direct_url.json") for found in distributions(name="reviewtune"))
    with suppress(ValueError, KeyError, TypeError):
        noted = json.loads(next(filter(None, texts), ""))
        address = str(noted["url"])
        if "vcs_info" in noted:
            return f"reviewtune[] @ {noted['vcs_info']['vcs']}+{address}"
        if address.startswith("file:"):
            return f"{unquote(urlsplit(address).path)}[]"
    return None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the user's errors into one line on stderr and exit status 1, and Ctrl-C into exit status 130."""
    try:
        yield
    except ReviewtuneError as error:
        if error.details:
            print(error.details, file=sys.stderr)
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(INTERRUPTED_MESSAGE, file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        remedy = REMEDIES.get(error.errno or 0, "fix that")
        sys.exit(f"error: {error.strerror or error}{where}: {remedy}, then run the same command again")
