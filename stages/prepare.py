"""Stage prepare: data/raw/* -> data/labeled.csv, reports/data.json, reports/data.md.  Run: dvc repro prepare"""

from reviewtune.core.atomic_files import write_json, write_text
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.data.preparation import write_labeled
from reviewtune.data.summary import describe, to_markdown


def main() -> None:
    config, paths = load_params(), ProjectPaths()
    prepared = write_labeled(config, config.data.path, paths.labeled)
    if prepared.empty_rows:
        print(f"{config.data.path}: {counted(prepared.empty_rows, 'empty row')} skipped")
    summary = describe(prepared, config.data, similarity=config.split.similarity)
    write_json(summary.as_json(), paths.data_summary)
    write_text(to_markdown(summary), paths.data_report)


if __name__ == "__main__":
    run_stage(main, __doc__)
