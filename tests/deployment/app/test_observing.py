"""What operators see: metrics that Prometheus' own parser reads, and a log without texts and keys."""

import json

from tests.support.app_service import AppProcess

SECRET = "my order 4711 of the blue teapot"


def test_metrics_count_what_was_answered(app: AppProcess, labels: tuple[str, ...]) -> None:
    before = app.samples()
    app.classify(labels[0], labels[0], labels[1], "odd")
    after = app.samples()
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    of_label = {key[1][0][1]: value for key, value in grown.items() if key[0] == "reviewtune_reviews_total"}
    assert of_label == {**dict.fromkeys(labels, 0.0), labels[0]: 2.0, labels[1]: 1.0}
    assert grown["reviewtune_unusable_answers_total", ()] == 1
    assert grown["reviewtune_requests_total", (("path", "/classify"), ("status", "200"))] == 1
    assert grown["reviewtune_request_seconds_count", (("path", "/classify"),)] == 1
    assert after["reviewtune_queue_reviews", ()] == 0
    assert after["reviewtune_ready", ()] == 1
    (model,) = [dict(key[1]) for key in after if key[0] == "reviewtune_model_info"]
    assert model["model"] == "tiny"


def test_unknown_paths_add_no_series(app: AppProcess) -> None:
    app.client.request("BREW", "/first")
    app.samples()  # asks for /metrics, which is counted too
    before = len(app.samples())
    for number in range(20):
        app.client.request(f"BREW{number}", f"/{number}")
    assert len(app.samples()) == before


def test_one_line_a_request_without_its_text(app: AppProcess, labels: tuple[str, ...]) -> None:
    headers = {"x-request-id": "seen-by-me"}
    app.client.post(f"/classify?text={SECRET}", json={"texts": [f"{labels[0]} {SECRET}", "odd"]}, headers=headers)
    app.client.get(f"/{SECRET}")
    app.client.post("/classify", json={"text": SECRET, SECRET: 1})
    (line,) = [line for line in app.events("request") if line["id"] == "seen-by-me"]
    assert line.pop("ms") > 0
    assert line.pop("version")
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "event": "request",
        "id": "seen-by-me",
        "method": "POST",
        "path": "/classify",
        "status": 200,
        "reviews": 2,
        "unusable": 1,
        "model": "tiny",
    }
    log = app.log.read_text()
    assert "teapot" not in log
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())
