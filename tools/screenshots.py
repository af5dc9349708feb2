"""Take docs/images/*.png of the MLflow UI and a data report: a small real sweep in a clone, in headless Chromium.

Run: make screenshots        (about 6 minutes; needs Debian's chromium)
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from reviewtune.core.config.loading import load_params
from reviewtune.core.terminal.entry_point import program
from reviewtune.core.user_dirs import cache_folder
from reviewtune.errors import ReviewtuneError
from reviewtune.sweeps.ranking_report import COMPARED
from reviewtune.tracking import ui_pages
from reviewtune.tracking.queries import find_runs, ui_command

PROJECT = Path(__file__).parents[1]
IMAGES = PROJECT / "docs" / "images"
SWEEP = ("prompt=short,detailed", "training.n_epochs=1,2", "data.train_size=44")
WIDTH = 1400
PAGES = {"runs": 490, "sweep": 700, "compare": 980, "data_report": 890}  # name -> height
# Not localhost: for requests to localhost the UI shows an assistant next to the page.
HOST, PORT = "mlflow.test", 5055
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 60  # seconds for the UI's server to start


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise ReviewtuneError("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:  # the provider stops some minutes later
        report = work_in(Path(place))
        with served() as address:
            pages = {**{name: f"{address}/{link}" for name, link in links().items()}, "data_report": report.as_uri()}
            for name, height in PAGES.items():
                take(chromium, pages[name], IMAGES / f"{name}.png", height)


def work_in(place: Path) -> Path:
    """The sweep and the data report, in a clone with a separate account; the user's weights are only read."""
    cache, home = cache_folder(), place / "home"
    home.mkdir()
    (home / "cache").symlink_to(cache)
    os.environ["REVIEWTUNE_HOME"] = str(home)
    subprocess.run(["git", "clone", "--quiet", PROJECT, place / "clone"], check=True)
    os.chdir(place / "clone")
    subprocess.run([sys.executable, "stages/sweep.py", "--multirun", *SWEEP], check=True)
    report = place / "report.html"
    subprocess.run(["reviewtune", "check-data", "data/raw/reviews_en.csv", "--out", report], check=True)
    return report


def links() -> dict[str, str]:
    """The pages of the clone's only sweep."""
    tracking = load_params(Path("params.yaml")).tracking
    pages = ui_pages.links(tracking)
    ranked = next(link for title, link in pages.items() if title.startswith("Jobs of sweeps"))
    jobs = sorted(find_runs(tracking, "tags.kind = 'job'"), key=lambda run: run.metrics["rank"])
    compare = ui_pages.compare_link(ui_pages.prepare(tracking), [run.id for run in jobs[:COMPARED]])
    return {"runs": ranked, "sweep": pages["Newest sweep"], "compare": compare}


@contextmanager
def served() -> Iterator[str]:
    """The MLflow UI on loopback, under another name."""
    address = f"http://{HOST}:{PORT}"
    allowed = ["--allowed-hosts", f"{HOST}:{PORT},127.0.0.1:{PORT}", "--cors-allowed-origins", address]
    command = [*ui_command(load_params(Path("params.yaml")).tracking, PORT), *allowed]
    server = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{PORT}/health")
        yield address
    finally:
        os.killpg(server.pid, 15)  # it has child processes
        server.wait()


def wait_for(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ReviewtuneError(f"the MLflow UI did not start within {PATIENCE} s: {error}") from error
            time.sleep(0.5)


def take(chromium: str, page: str, picture: Path, height: int) -> None:
    """A screenshot, with a reduced palette: a third of the bytes."""
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--user-data-dir={profile}", f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]
        shot = [f"--window-size={WIDTH},{height}", "--virtual-time-budget=20000", f"--screenshot={picture}"]
        subprocess.run([chromium, *QUIET, *options, *shot, page], check=True, capture_output=True, timeout=120)
    Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)
    print(f"{picture.relative_to(PROJECT)}: {picture.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    with program():
        main()
