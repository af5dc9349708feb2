"""Stage prepare: data/raw/*.csv -> data/labeled.csv, reports/data.json, reports/data.md.  Run: dvc repro prepare"""

from pathlib import Path

from reviewtune.core.atomic_files import write_json, write_text
from reviewtune.core.config_loading import load_params
from reviewtune.core.entry_point import run_stage
from reviewtune.data.reviews import prepare, write_reviews
from reviewtune.data.summary import describe, to_markdown


def main() -> None:
    config = load_params()
    prepared = prepare(config.data.path, config.data)
    summary = describe(prepared, config.data, similarity=config.split.similarity)
    write_reviews(prepared.reviews, Path("data/labeled.csv"))
    write_json(summary.as_json(), Path("reports/data.json"))
    write_text(to_markdown(summary), Path("reports/data.md"))


if __name__ == "__main__":
    run_stage(main, __doc__)
