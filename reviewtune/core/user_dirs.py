"""The user's folders, shared by all projects: the local provider's account, and caches.

REVIEWTUNE_HOME moves both. The local provider and its clients both call this module, so that they agree.
"""

import os
from pathlib import Path

import platformdirs

SERVER_LOG = "server.log"  # in the account folder, of a server that a command started


def account_folder() -> Path:
    """The folder with files, jobs and models of the local provider."""
    home = os.environ.get("REVIEWTUNE_HOME")
    return Path(home) / "data" if home else platformdirs.user_data_path("reviewtune")


def cache_folder() -> Path:
    """The folder with converted base weights and with cached answers."""
    home = os.environ.get("REVIEWTUNE_HOME")
    return Path(home) / "cache" if home else platformdirs.user_cache_path("reviewtune")
