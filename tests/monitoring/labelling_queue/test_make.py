"""A queue is made of the model's answers only."""

from pathlib import Path

import pytest

from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core.config.config import Config
from reviewtune.errors import ProviderError
from reviewtune.monitoring.labelling_queue.make import QueueOptions, make_queue
from reviewtune.monitoring.labelling_queue.queue_record import read_records
from tests.support.odd_server import CHAT, Asked, odd_server
from tests.support.served import provided_by, scored_completion, served_folder, unreadable_completion


def test_a_review_without_an_answer_is_no_answer_of_the_model(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written until the same command gets the answers that are missing."""
    monkeypatch.chdir(tmp_path)
    columns = config.data.columns.model_copy(update={"id": None, "second_label": None})
    data = config.data.model_copy(update={"path": Path("raw.csv"), "columns": columns, "slices": ()})
    Path("raw.csv").write_text("text,label\nBroken glass in the box,damaged_item\n")
    Path("new.csv").write_text("text\nStill no parcel after weeks\nThe lamp flickers when it rains\n")
    answered = ["parcel"]

    def answer(asked: Asked) -> object:
        known = any(word in asked.review for word in answered)
        return scored_completion("no_issue") if known else unreadable_completion()

    with odd_server({CHAT: answer}) as server:
        settings = provided_by(config, server.base_url, max_retries=0).model_copy(update={"data": data})
        model = ReviewAnalyzer(served_model=served_folder(tmp_path / "served", settings), cache=True)
        options = QueueOptions(2, audit=0)
        with pytest.raises(ProviderError, match="1 review got no answer, the first in line 3"):
            make_queue(Path("new.csv"), "text", options, settings, tmp_path, model)
        assert read_records(tmp_path) == []
        answered.append("lamp")
        made = make_queue(Path("new.csv"), "text", options, settings, tmp_path, model)
    assert [row.predicted for row in made.record.rows] == ["no_issue"] * 2
