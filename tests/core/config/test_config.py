"""conf/ is the only source: every variant composes, and every fault is reported with its path before anything runs."""

import itertools
from pathlib import Path

import pytest

from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.errors import ConfigError

CONF = Path(__file__).parents[3] / "conf"
NEEDS = {
    "provider=compatible": ["provider.base_url=http://127.0.0.1:1/v1", "provider.base_model=some-model"],
    "data=banking77": ["data.path=banking77.csv"],
    "experiment=banking77": ["data.path=banking77.csv"],
}


def variants() -> list[str]:
    """Every file of every group as an override, such as data=reviews_ko."""
    files = [file for file in CONF.rglob("*.yaml") if file.parent != CONF and file.parent.name != "arm"]
    return sorted(f"{file.parent.relative_to(CONF)}={file.stem}" for file in files)


def test_every_group_has_variants() -> None:
    groups = {variant.split("=")[0] for variant in variants()}
    assert groups >= {"data", "provider", "prompt", "training", "evaluation", "tracking", "prices", "experiment"}
    assert len(variants()) >= 12


@pytest.mark.parametrize("variant", variants())
def test_every_variant_composes(variant: str, tmp_path: Path) -> None:
    if variant == "experiment=search":
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra `search` is not installed")
    text = compose_text([variant, *NEEDS.get(variant, [])], CONF)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    assert load_params(tmp_path / "params.yaml").data.labels


def test_each_arm_can_be_used_alone_with_the_reference() -> None:
    arms = sorted(file.stem for file in (CONF / "arm").glob("*.yaml"))
    assert {"linear", "zero_shot", "few_shot", "few_shot_cot"} <= set(arms)
    for arm in arms:
        assert f"  {arm}:" in compose_text([f"arm@arms=[{','.join({arm: 0, 'zero_shot': 0})}]"], CONF)


def test_an_arm_can_have_a_separate_provider(tmp_path: Path) -> None:
    """To compare the fine-tuned model with a larger prompted one, as in README."""
    path = tmp_path / "params.yaml"
    path.write_text(compose_text(["+provider@arms.zero_shot.provider=openai"], CONF), encoding="utf-8")
    config = load_params(path)
    kinds = {name: arm.provider.kind for name, arm in config.arms.items() if arm.kind == "prompt"}
    assert kinds == {"zero_shot": "openai", "few_shot": "local", "few_shot_cot": "local"}
    assert config.provider.kind == "local"


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("training.n_epochs=0", "training.n_epochs"),
        ("training.n_epochs=51", "training.n_epochs"),
        ("training.n_epochs=two", "training.n_epochs"),
        ("training.seed=1.5", "training.seed"),
        ("training.suffix=a/b", "training.suffix"),
        ("split.test=1", "split.test"),
        ("split.validation=0", "split.validation"),
        ("evaluation.temperature=3", "evaluation.temperature"),
        ("evaluation.reference=nobody", "evaluation.reference"),
        ("evaluation.checkpoints=[1,1]", "evaluation.checkpoints"),
        ("evaluation.checkpoints=true", "evaluation.checkpoints"),
        ("provider.concurrency=0", "provider.concurrency"),
        ("provider.priced_as=gpt-9", "provider.priced_as"),
        ("prompt.user=no-placeholder", "prompt.user"),
        ("prompt.answer=xml", "prompt.answer"),
        ("data.train_size=5", "data.train_size"),
        ("data.conflicts=guess", "data.conflicts"),
        ("arms.few_shot.shots=-1", "arms.few_shot.shots"),
        ("+training.epochs=3", "training.epochs"),
        ("+zz=1", "zz"),
        ("prices.date=yesterday", "prices.date"),
    ],
)
def test_a_fault_is_named_with_its_dotted_path(override: str, path: str) -> None:
    with pytest.raises(ConfigError, match=rf"\b{path}: "):
        compose_text([override], CONF)


def test_an_epoch_beyond_the_training_cannot_be_an_arm() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.checkpoints: \[3\], but training\.n_epochs is 2"):
        compose_text(["evaluation.checkpoints=[3]", "training.n_epochs=2"], CONF)


def test_all_faults_come_in_one_message() -> None:
    faults = {"training.n_epochs": "-1", "split.test": "7", "provider.timeout": "0", "data.conflicts": "x"}
    with pytest.raises(ConfigError) as caught:
        compose_text([f"{path}={value}" for path, value in faults.items()], CONF)
    assert all(path in str(caught.value) for path in faults)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["training.epochs=3", "data=nope", "nope=1", "provider=compatible"])
def test_an_error_of_hydra_is_one_line(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_text([override], CONF)
    assert "\n" not in str(caught.value)


def test_an_unknown_variant_is_reported_with_the_existing_ones() -> None:
    with pytest.raises(ConfigError, match=r"reviews_en.*reviews_ko"):
        compose_text(["data=nope"], CONF)


def test_params_are_read_back_from_yaml(tmp_path: Path) -> None:
    """PyYAML reads 1e-4 as a string; in our files it must be read as a number."""
    path = tmp_path / "params.yaml"
    path.write_text(compose_text(["training.learning_rate_multiplier=1e-4"], CONF), encoding="utf-8")
    assert load_params(path).training.learning_rate_multiplier == 1e-4


@pytest.mark.parametrize("content", [None, "", "a: [", "just text", "- 1\n- 2"])
def test_a_broken_params_file_is_one_line(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_value_can_hold_a_secret_or_a_time() -> None:
    """`${oc.env:...}` would be committed in clear text, `${now:...}` would make every run stale."""
    files = [file for file in CONF.rglob("*.yaml") if file.name != "config.yaml"]
    text = "\n".join(file.read_text() for file in files)
    assert not [word for word in ("oc.env", "${now", "${hydra") if word in text]
    assert len(files) >= 15


def test_both_languages_have_the_same_labels() -> None:
    english, korean = (compose_text([f"data=reviews_{language}"], CONF) for language in ("en", "ko"))
    listings = [
        list(itertools.takewhile(lambda line: line.startswith("   "), _after(text))) for text in (english, korean)
    ]
    assert listings[0] == listings[1]
    assert len(listings[0]) >= 11


def _after(text: str) -> list[str]:
    lines = text.splitlines()
    return lines[lines.index("  labels:") + 1 :]


def test_an_unknown_variant_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_text(["data=nosuch"], CONF)
    assert str(caught.value).endswith("'data/nosuch'; available options in 'data': banking77 reviews_en reviews_ko")
