"""The user's folders, which all projects share: the local provider's account, and what can be made again.

REVIEWTUNE_HOME moves both. The local provider and its clients must agree on them, so both ask here.
"""

import os
from pathlib import Path

import platformdirs

SERVER_LOG = "server.log"  # in the account, of a server that a command started


def account_folder() -> Path:
    """Files, jobs and models of the local provider."""
    home = os.environ.get("REVIEWTUNE_HOME")
    return Path(home) / "data" if home else platformdirs.user_data_path("reviewtune")


def cache_folder() -> Path:
    """Converted base weights, and the answers that were paid for already."""
    home = os.environ.get("REVIEWTUNE_HOME")
    return Path(home) / "cache" if home else platformdirs.user_cache_path("reviewtune")
