"""Pages of invented comparisons."""

from pathlib import Path

import pytest

from reviewtune.evaluation.comparison_page.page import GateRow, PageInput, to_html
from tests.support.comparison_files import KOREAN_LABELS, KOREAN_WORDS, Folder, write_comparison

LABELS = ["late delivery", "billing error", "product damaged", "login", "refund", "other"]
HOSTILE = "<script>document.title='attacked'</script><img src=x onerror=alert(1)> & \"quoted\" \u202eback"
GATES = (
    GateRow("not worse", "at most 2.0 points worse", "+3.1 points", "passed"),
    GateRow("latency", "p95 below 0.5 s", "0.81 s", "failed"),
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Six arms on 120 reviews, of which the first nine attack the page."""
    return write_comparison(
        tmp_path_factory.mktemp("comparison"), LABELS, 120, texts=dict.fromkeys(range(9), HOSTILE), validation=60
    )


@pytest.fixture(scope="session")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return write_comparison(tmp_path_factory.mktemp("korean"), KOREAN_LABELS, 120, words=KOREAN_WORDS, validation=60)


@pytest.fixture
def content(folder: Folder) -> PageInput:
    return page_input(folder)


def page_input(folder: Folder) -> PageInput:
    from reviewtune.evaluation.comparison_page.files import load_arms, read_texts

    texts = read_texts(folder.comparison, folder.test)
    return PageInput(folder.comparison, load_arms(folder.comparison, folder.reports), texts, GATES)


def written(content: PageInput, path: Path) -> Path:
    path.write_text(to_html(content), encoding="utf-8")
    return path
