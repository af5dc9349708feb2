"""A small project, the provider that its model is at, and another one to move to; both speak HTTP."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.data.preparation import write_chat, write_labeled, write_splits
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import read_reviews
from reviewtune.tracking.runs import open_run
from tests.support.played_provider import PlayedProvider, played_provider
from tests.support.sweep_project import edit, make_project


@dataclass(frozen=True)
class Project:
    """A project after its stage `format`, at the old provider.

    Args:
        folder: the current folder.
        config: its params.yaml.
        old, new: the two providers.
        unlabelled: a file with reviews of the data set that are in none of the splits.
    """

    folder: Path
    config: Config
    old: PlayedProvider
    new: PlayedProvider
    unlabelled: Path

    @property
    def paths(self) -> ProjectPaths:
        return ProjectPaths(self.folder)

    @property
    def at_new(self) -> tuple[str, ...]:
        """Settings of the new model."""
        return (f"provider.base_url={self.new.base_url}", *NEW)

    @property
    def environment(self) -> dict[str, str]:
        """Of a command that runs in a process of its own."""
        return {**os.environ, "PYTHONPATH": str(self.folder)}


NEW = (
    "provider.base_model=new-base",
    "provider.api_key_env=null",
    "provider.max_retries=0",
    "provider.label_scores=raw",
)


@pytest.fixture(scope="session")
def split_project(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(project, tmp_path_factory.mktemp("rebase") / "project", "old-base")
    edit(folder / "conf/promotion/default.yaml", "margin: 0.02", "margin: 0.2")  # so few test reviews
    edit(folder / "conf/config.yaml", "validation: 0.06", "validation: 0.08")
    paths = ProjectPaths(folder)
    paths.params.write_text(compose_text(conf=folder / "conf"))
    config = load_params(paths.params)
    write_labeled(config, folder / config.data.path, paths.labeled)
    write_splits(config, paths.labeled, paths.splits, frozen=paths.frozen_splits)
    write_chat(config, paths.splits, paths.chat)
    with contextlib.chdir(folder), open_run(config.tracking, name="first", kind="comparison", tags={}):
        pass  # creates the store, which takes long, once for all copies
    return folder


@pytest.fixture(scope="session")
def truth(split_project: Path) -> dict[str, str]:
    """The label of each review of the data set, by its user message."""
    config = load_params(ProjectPaths(split_project).params)
    reviews, prompt = read_reviews(ProjectPaths(split_project).labeled), Prompt.of(config)
    messages = [prompt.messages(text)[-1]["content"] for text in reviews["text"]]
    return dict(zip(messages, reviews["label"], strict=True))


@pytest.fixture
def moving(
    split_project: Path, truth: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """The old model is wrong about a tenth of the reviews, the new one about none."""
    folder = tmp_path / "project"
    shutil.copytree(split_project, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("reviewtune.providers.responses.http_client.FIRST_PAUSE", 0.001)
    with played_provider(truth, share_wrong=0.1) as old, played_provider(truth) as new:
        config = at_provider(folder, kind="compatible", base_url=old.base_url, max_retries=0, label_scores="raw")
        yield Project(folder, config, old, new, write_unlabelled(folder, config))


def at_provider(folder: Path, **provider: object) -> Config:
    """The project's configuration, written to params.yaml, with these settings of its provider."""
    path = ProjectPaths(folder).params
    params = yaml.safe_load(path.read_text())
    params["provider"] |= provider
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return load_params(path)


def write_unlabelled(folder: Path, config: Config) -> Path:
    """60 reviews that are in no split, without their labels; and one test review, which must not be asked."""
    splits = ProjectPaths(folder).splits
    used = pd.concat([read_reviews(splits.part(part)) for part in ("train", "valid", "test")])
    everything = read_reviews(ProjectPaths(folder).labeled)
    free = everything[~everything["review_id"].isin(used["review_id"])].head(60)
    rows = pd.concat([free, read_reviews(splits.test).head(1)])
    path = folder / "unlabelled.csv"
    rows[["text"]].to_csv(path, index=False)
    return path
