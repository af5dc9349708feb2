"""`reviewtune classify FOLDER --out FOLDER --on ray` on real clusters of two nodes on loopback.

What a cluster writes is what one process writes, whatever dies meanwhile. Run by `make test-scale`, which installs Ray;
without it these tests are skipped.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reviewtune.core.config.config import Config
from tests.bulk.conftest import rows_in, write_csv
from tests.support.scale import Hosted, hosted, power_off, ray_cluster, works
from tests.support.served import provided_by, served_folder
from tests.support.serving import wait_for

pytest.importorskip("ray", reason="comes with `make test-scale`")
pytestmark = pytest.mark.usefixtures("ray_on_loopback")

TASK = "make_part_of"
MODEL = "ft:tiny:local:here"
STORE_BYTES = 80 * 2**20  # of a node's object store, the least that Ray accepts
PRICED = "gpt-4o-mini-2024-07-18"
USD_EACH = (60 * 0.15 + 8 * 0.60) / 1e6  # what the hosted provider says of each answer, at these prices


class Place:
    """A folder in which commands run."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home

    def started(self, *words: str, home: Path | None = None) -> subprocess.Popen[str]:
        environment = {**os.environ, "REVIEWTUNE_HOME": str(home or self.home)}
        command = [sys.executable, "-m", "reviewtune", "classify", *words]
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **streams)

    def run(self, *words: str, status: int = 0, home: Path | None = None) -> str:
        process = self.started(*words, home=home)
        shown = process.communicate(timeout=400)[0]
        assert process.returncode == status, shown
        return shown

    def finished(self, out: str = "out") -> dict[str, int]:
        """The finished parts, with the time of their last change."""
        try:
            parts = json.loads((self.folder / out / "manifest.json").read_text())["parts"]
        except FileNotFoundError:
            return {}
        return {part["name"]: (self.folder / out / part["name"]).stat().st_mtime_ns for part in parts}

    def refuse_differences(self, one: str, other: str) -> None:
        names = sorted(path.name for path in (self.folder / one).iterdir())
        assert names == sorted(path.name for path in (self.folder / other).iterdir())
        for name in names:
            assert (self.folder / one / name).read_bytes() == (self.folder / other / name).read_bytes(), name


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the commands. The nodes have others: what they need of it, they must get through Ray."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One node for one part at a time; a test adds its second."""
    environment = {"REVIEWTUNE_HOME": str(tmp_path_factory.mktemp("head"))}
    with ray_cluster(environment, num_cpus=1, object_store_memory=STORE_BYTES) as cluster:
        yield cluster


@pytest.fixture
def second(cluster: Any, tmp_path: Path) -> Iterator[Any]:
    environment = {"REVIEWTUNE_HOME": str(tmp_path / "second")}
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, env_vars=environment)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


@pytest.fixture
def place(tmp_path: Path, home: Path) -> Place:
    return Place(tmp_path, home)


@pytest.fixture
def provider() -> Iterator[Hosted]:
    with hosted(job_seconds=0) as provider:
        yield provider


def many(reviews: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    """The reviews again and again, each with its number."""
    return [{"id": str(at), "text": f"{reviews[at % len(reviews)]['text']} {at}"} for at in range(count)]


def write_adapter(base: str, folder: Path) -> None:
    """Random weights that change the base model's answers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(base)
    settings = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(network, settings).save_pretrained(folder)


def prompted(folder: Path, config: Config, provider: Hosted, budget: float | None, rate: float | None = None) -> Path:
    """The folder of a served model of the hosted provider."""
    limits = config.evaluation.model_copy(update={"budget_usd": budget, "requests_per_minute": rate})
    at = provided_by(config, provider.base_url, priced_as=PRICED, label_scores="none", base_model="m", concurrency=4)
    chosen = at.model_copy(update={"evaluation": limits})
    return served_folder(folder, chosen, "m", arm="zero_shot", kind="prompt", calibration=None, threshold=None)


class TestLinear:
    @pytest.fixture
    def words(self, place: Place, served: Path, reviews: list[dict[str, str]]) -> list[str]:
        """Of the command, without --out: 60 parts of two files."""
        rows = many(reviews, 6_000)
        (place.folder / "new").mkdir()
        write_csv(place.folder / "new" / "a.csv", rows[:2_550])
        write_csv(place.folder / "new" / "b.csv", rows[2_550:])
        with (place.folder / "new" / "b.csv").open("a") as file:
            file.write("a row of one cell\n")  # no label, but a reason
        return ["new", "--served-model", str(served), "--part-rows", "100", "--keep", "id"]

    def test_a_node_dies_half_way_and_the_parts_are_those_of_one_process(
        self, place: Place, words: list[str], cluster: Any, second: Any
    ) -> None:
        command = place.started(*words, "--out", "out", "--on", "ray", "--address", cluster.address)
        wait_for(lambda: ended(command) or (len(place.finished()) >= 5 and works(second, TASK)), 200)
        power_off(second)
        by_then = len(place.finished())
        shown = command.communicate(timeout=400)[0]
        assert command.returncode == 0, shown
        assert 5 <= by_then < 55
        assert "Ray: 2 nodes, 2 parts at once" in shown
        assert "6,001 rows in 61 parts and manifest.json, written to out" in shown
        place.run(*words, "--out", "plain")
        place.refuse_differences("out", "plain")
        assert [row["id"] for row in rows_in(place.folder / "out")] == [*map(str, range(6_000)), None]

    def test_the_same_command_continues_after_a_kill_with_ray_or_without(
        self, place: Place, words: list[str], cluster: Any, second: Any
    ) -> None:
        on_ray = [*words, "--out", "out", "--on", "ray", "--address", cluster.address]
        command = place.started(*on_ray)
        wait_for(lambda: ended(command) or len(place.finished()) >= 5, 200)
        command.kill()
        command.communicate()
        first = place.finished()
        assert 5 <= len(first) < 55
        again = place.started(*on_ray)
        wait_for(lambda: ended(again) or len(place.finished()) >= len(first) + 5, 200)
        again.kill()
        again.communicate()
        both = place.finished()
        assert len(both) < 60
        assert f"continuing after {len(both)} finished parts" in place.run(*words, "--out", "out")
        now = place.finished()
        assert {name: now[name] for name in both} == both  # not written again
        assert {name: now[name] for name in first} == first
        place.run(*words, "--out", "plain")
        place.refuse_differences("out", "plain")

    def test_without_an_address_ray_runs_on_this_machine_and_ends_with_the_command(
        self, place: Place, served: Path, reviews: list[dict[str, str]]
    ) -> None:
        write_csv(place.folder / "new.csv", many(reviews, 30))
        words = ["new.csv", "--served-model", str(served), "--part-rows", "10"]
        assert "Ray: 1 node, " in place.run(*words, "--out", "out", "--on", "ray")
        place.run(*words, "--out", "plain")
        place.refuse_differences("out", "plain")

    def test_if_no_node_is_left_the_command_stops_and_continues_without_ray(
        self, place: Place, words: list[str], tmp_path: Path
    ) -> None:
        environment = {"REVIEWTUNE_HOME": str(tmp_path / "only")}
        with ray_cluster(environment, num_cpus=0, object_store_memory=STORE_BYTES) as lonely:
            only = lonely.add_node(num_cpus=1, object_store_memory=STORE_BYTES, env_vars=environment)
            lonely.wait_for_nodes()
            command = place.started(*words, "--out", "out", "--on", "ray", "--address", lonely.address)
            wait_for(lambda: ended(command) or len(place.finished()) >= 2, 200)
            power_off(only)
            shown = command.communicate(timeout=400)[0]
        assert command.returncode == 1, shown
        assert "no node of the Ray cluster is left that can run this" in shown
        assert "Traceback" not in shown
        assert 2 <= len(place.finished()) < 61
        place.run(*words, "--out", "out")
        place.run(*words, "--out", "plain")
        place.refuse_differences("out", "plain")

    def test_an_address_without_a_cluster_is_one_line(self, place: Place, words: list[str]) -> None:
        shown = place.run(*words, "--out", "out", "--on", "ray", "--address", "127.0.0.1:1", status=1)
        assert "error: --address 127.0.0.1:1: no Ray cluster there" in shown
        assert "Traceback" not in shown
        assert not (place.folder / "out").exists()


class TestHosted:
    def test_a_node_dies_and_only_what_it_was_asking_is_asked_again(
        self, place: Place, config: Config, provider: Hosted, reviews: list[dict[str, str]], cluster: Any, second: Any
    ) -> None:
        write_csv(place.folder / "new.csv", many(reviews, 400))
        prompted(place.folder / "served", config, provider, None, rate=2_400)
        words = ["new.csv", "--served-model", "served", "--part-rows", "40"]
        command = place.started(*words, "--out", "out", "--on", "ray", "--address", cluster.address)
        wait_for(lambda: ended(command) or (len(place.finished()) >= 2 and works(second, TASK)), 200)
        at, asked = time.monotonic(), provider.stats["asked"]
        time.sleep(2)
        seconds, more = time.monotonic() - at, provider.stats["asked"] - asked
        power_off(second)
        shown = command.communicate(timeout=400)[0]
        assert command.returncode == 0, shown
        assert 10 < more <= seconds * 40 + 2 + 4  # 40 a second by all nodes; each of up to 4 parts begins at once
        stats = provider.stats
        assert stats["questions"] == 400
        assert stats["asked"] <= 400 + 4  # what the dead node was asking: half of the concurrency, twice for a retry
        place.run(*words, "--out", "plain", home=place.folder / "other")
        place.refuse_differences("out", "plain")

    def test_all_nodes_share_the_budget_and_no_answer_is_paid_twice(
        self, place: Place, config: Config, provider: Hosted, reviews: list[dict[str, str]], cluster: Any, second: Any
    ) -> None:
        write_csv(place.folder / "new.csv", many(reviews, 200))
        prompted(place.folder / "poor", config, provider, 100 * USD_EACH)
        prompted(place.folder / "rich", config, provider, 300 * USD_EACH)
        on_ray = ["new.csv", "--part-rows", "20", "--on", "ray", "--address", cluster.address]
        shown = place.run(*on_ray, "--out", "out", "--served-model", "poor", status=1)
        assert "error: evaluation.budget_usd is " in shown or "of it spent; nothing was sent" in shown
        by_then = provider.stats["asked"]
        assert 40 <= by_then <= 100
        assert place.finished()
        place.run(*on_ray, "--out", "more", "--served-model", "rich")
        stats = provider.stats
        assert (stats["questions"], stats["asked"]) == (200, 200)
        assert len(rows_in(place.folder / "more")) == 200


class TestLocal:
    def test_each_node_answers_with_its_own_engine_and_gets_the_weights(
        self,
        place: Place,
        config: Config,
        reviews: list[dict[str, str]],
        base: str,
        cluster: Any,
        second: Any,
    ) -> None:
        local = {"kind": "local", "base_model": base, "api_key_env": None, "base_url": None}
        own = config.model_copy(update={"provider": config.provider.model_copy(update=local)})
        served_folder(place.folder / "served", own, MODEL, calibration=None, threshold=None)
        write_adapter(base, place.folder / "served" / "adapter")  # as `promote --with-weights` does
        write_csv(place.folder / "new.csv", many(reviews, 48))
        words = ["new.csv", "--served-model", "served", "--part-rows", "6"]
        shown = place.run(*words, "--out", "out", "--on", "ray", "--address", cluster.address)
        assert "Ray: 2 nodes, 2 parts at once" in shown
        assert list((place.folder / "second" / "data" / "models").glob("imported-*"))
        assert (place.folder / "second" / "data" / "server.json").exists()  # its engine answered
        assert not (place.home / "data" / "server.json").exists()
        place.run(*words, "--out", "plain", home=place.folder / "other")
        place.refuse_differences("out", "plain")
        rows = rows_in(place.folder / "out")
        assert (len(rows), {row["model"] for row in rows}) == (48, {MODEL})
        assert any(row["label"] for row in rows)


def ended(command: subprocess.Popen[str]) -> bool:
    """Whether a command ended before it should."""
    assert command.poll() is None, command.communicate()[0]
    return False
