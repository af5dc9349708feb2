"""What every run says about where it comes from: configuration, data hashes, data sets as inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reviewtune.config import Config, Tracking
from reviewtune.dataset import read_reviews
from reviewtune.files import read_json
from reviewtune.tracking import Run, add_to_pass, open_run

SPLITS = Path("data/splits")


def describe_run(
    run: Run,
    config: Config,
    *,
    sections: Sequence[str],
    inputs: Mapping[str, str],
    params: Path = Path("params.yaml"),
    splits: Path = SPLITS,
) -> None:
    """Settings of the named sections, the whole configuration as an artifact, data hashes, splits as inputs.

    `sections` are dotted paths such as "training" or "arms.few_shot"; `inputs` says what each split is used for.
    """
    run.params({section: _settings(config, section) for section in sections})
    run.text(params.read_text(encoding="utf-8"), "params.yaml")
    manifest = read_json(splits / "manifest.json")
    hashes = {name: manifest["splits"][name]["sha256"] for name in inputs}
    run.tags({"data": config.data.name, "data_sha256": manifest["data_sha256"]})
    run.tags({f"{name}_sha256": digest for name, digest in hashes.items()})
    for name, use in inputs.items():
        table = read_reviews(splits / f"{name}.csv")
        run.dataset(table, name=f"{config.data.name}/{name}", digest=hashes[name], context=use)


def log_pass(tracking: Tracking, run_files: Sequence[Path], written: Sequence[Path]) -> None:
    """A run for the comparison itself, whose id every run of this pass of the pipeline then bears in its tag `passes`.

    A run that was restored instead of made again belongs to several passes: hence a list in a tag, not a parent.
    """
    runs = [read_json(file)["mlflow_run_id"] for file in run_files]
    with open_run(tracking, name="comparison", kind="comparison", tags={}) as run:
        for path in written:
            run.artifact(path)
        add_to_pass(tracking, [*runs, run.id], run.id[:12])
    print(f"runs of this pass, in the MLflow UI (`make ui`): tags.passes LIKE '%{run.id[:12]}%'")


def _settings(config: Config, section: str) -> dict[str, Any]:
    """A section as plain values; without the list of labels, which stands in the artifact params.yaml."""
    found: Any = config
    for key in section.split("."):
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    return {key: value for key, value in found.model_dump(mode="json").items() if key != "labels"}
