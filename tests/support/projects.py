"""Folders of projects without data and runs, for tests that only ask a provider."""

from pathlib import Path

import yaml


def write_params(folder: Path, project: Path, **provider: object) -> None:
    """Write the project's params.yaml into a folder, with these settings of the provider, also of each arm's."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    for section in (params, *(arm for arm in params["arms"].values() if "provider" in arm)):
        section["provider"] |= provider
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
