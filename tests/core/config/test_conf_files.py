"""A fault in conf/ is reported with the file and the line that a person edits."""

import shutil
from pathlib import Path

import pytest

from reviewtune.core.config.loading import compose_text, composition, load_params
from reviewtune.errors import ConfigError

CONF = Path(__file__).parents[3] / "conf"
HEAD = "name: own\npath: data/raw/own.csv\nlanguage: en\ncolumns: {text: t, label: l}\n"
LABELS = "labels:\n  a: came late\n  b: came broken\n"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path / "conf"


def refusal(conf: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose_text(overrides, conf)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_own(conf: Path, content: str, encoding: str = "utf-8") -> str:
    (conf / "data" / "own.yaml").write_bytes(content.encode(encoding))
    return refusal(conf, "data=own")


@pytest.mark.parametrize(
    ("key", "read"), [("yes", "true or false"), ("off", "true or false"), ("null", "nothing"), ("1.0", "a number")]
)
def test_a_label_that_yaml_misreads_is_named(conf: Path, key: str, read: str) -> None:
    message = of_own(conf, f"{HEAD}labels:\n  {key}: one\n  b: two\n")
    assert message == f'conf/data/own.yaml line 6: YAML reads the key {key} as {read}; put it in quotes: "{key}"'


def test_quoted_labels_and_dates_are_kept_as_written(conf: Path) -> None:
    labels = {"yes": "one", "1.0": "two", "2026-11-29": "three", "null": "four"}
    lines = "".join(f"  {key}: {meaning}\n" for key, meaning in (('"yes"', "one"), ("'1.0'", "two")))
    (conf / "data" / "own.yaml").write_text(f'{HEAD}labels:\n{lines}  2026-11-29: three\n  "null": four\n')
    (conf.parent / "params.yaml").write_text(compose_text(["data=own"], conf))
    assert load_params(conf.parent / "params.yaml").data.labels == labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("labels:\n  a: x\n  b: y\n  a: z\n", " line 8: 'a' is there twice, first on line 6; remove one"),
        ("labels: [a, b\n", " line 6: expected ',' or ']'"),
        ("labels: [a, b]\n", " line 5: data.labels: should be a mapping, with a line `key: value` for each"),
        (
            "labels:\n  a: yes\n  b: y\n",
            " line 6: data.labels.a: should be a valid string (got True); put it in quotes",
        ),
        (LABELS + "colour: red\n", " line 8: data.colour: unknown key"),
        (LABELS + "slices: [text]\n", " line 8: data.slices: 'text' is a column that the pipeline itself uses"),
        (LABELS + "slices: [t]\n", " line 8: data.slices: 't' is a column that the pipeline itself uses"),
        (LABELS + "slices: [x, x]\n", " line 8: data.slices: x, x contains a column twice"),
        ("labels:\n  \u1112\u1161\u11ab: x\n  \ud55c: y\n", " line 5: data.labels: two labels differ only in how"),
    ],
)
def test_a_fault_has_its_file_and_line(conf: Path, content: str, message: str) -> None:
    assert of_own(conf, HEAD + content).startswith(f"conf/data/own.yaml{message}")


def test_a_missing_key_has_the_file_in_which_it_is_missing(conf: Path) -> None:
    assert of_own(conf, HEAD.replace("language: en\n", "") + LABELS) == "conf/data/own.yaml: data.language: missing"


def test_meanings_that_init_data_left_to_the_user_are_all_counted(conf: Path) -> None:
    labels = "".join(f"  l{i}: 'TODO: what it means'\n" for i in range(9))
    message = of_own(conf, f"{HEAD}labels:\n{labels}")
    assert "conf/data/own.yaml line 6: data.labels.l0: write what the label means" in message
    assert "(the same is true of data.labels.l1, data.labels.l2, data.labels.l3, data.labels.l4 and 4 more)" in message
    (conf / "data" / "own.yaml").write_text(HEAD + "labels:\n  TODO: a to-do app\n  b: Todo llegó tarde\n")
    assert compose_text(["data=own"], conf)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_named(conf: Path, encoding: str) -> None:
    message = of_own(conf, HEAD + "labels:\n  späte: x\n  b: y\n", encoding)
    assert message.startswith("conf/data/own.yaml")
    assert message.endswith("save it as UTF-8")


def test_missing_values_have_their_lines(conf: Path) -> None:
    assert refusal(conf, "provider=compatible") == (
        "conf/provider/compatible.yaml line 3: provider.base_model; conf/provider/compatible.yaml line 4: "
        "provider.base_url: a value is missing (???); write it there, or pass provider.base_model=VALUE to the command"
    )


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "config.yaml",
            "test: 0.25",
            "test: 2",
            "conf/config.yaml line LINE: split.test: should be less than 1 (got 2)",
        ),
        ("arm/few_shot.yaml", "shots: 4", "shots: many", "conf/arm/few_shot.yaml line 8: arms.few_shot.shots: should"),
        (
            "prompt/detailed.yaml",
            "answer: json",
            "answer: x",
            "conf/prompt/detailed.yaml line 9: arms.zero_shot.prompt",
        ),
    ],
)
def test_every_group_is_searched(conf: Path, name: str, old: str, new: str, message: str) -> None:
    path = conf / name
    assert old in path.read_text()
    line = path.read_text().partition(old)[0].count("\n") + 1
    path.write_text(path.read_text().replace(old, new))
    assert message.replace("LINE", str(line)) in refusal(conf)


def test_a_value_from_the_command_line_is_not_blamed_on_a_file(conf: Path) -> None:
    assert refusal(conf, "training.n_epochs=0").startswith("conf/: 1 fault: training.n_epochs: ")


def test_a_fault_in_another_data_set_does_not_matter(conf: Path) -> None:
    (conf / "data" / "other.yaml").write_text("labels:\n  yes: x\n")
    assert compose_text([], conf)


def test_a_wrong_override_is_reported_as_it_is_whatever_other_files_hold(conf: Path) -> None:
    (conf / "data" / "own.yaml").write_text("labels: [a, b\n")
    assert "Could not override 'training.epochs'" in refusal(conf, "training.epochs=1")
    assert "own.yaml" not in refusal(conf, "training.epochs=1")


def test_a_dollar_sign_with_a_brace_is_text_if_it_is_escaped(conf: Path) -> None:
    (conf / "data" / "own.yaml").write_text(HEAD + "labels:\n  a: \\${amount} was charged\n  b: came broken\n")
    (conf.parent / "params.yaml").write_text(compose_text(["data=own"], conf))
    for config in (load_params(conf.parent / "params.yaml"), composition(["data=own"], conf)[0]):
        assert config.data.labels["a"] == "${amount} was charged"
    (conf / "data" / "own.yaml").write_text(HEAD + "labels:\n  a: \\${amount\n  b: came broken\n")
    assert "conf" in refusal(conf, "data=own")


def test_a_fault_in_params_is_looked_up_in_conf(conf: Path) -> None:
    """`dvc exp run -S data=own` composes params.yaml without a check."""
    (conf / "data" / "own.yaml").write_text(HEAD + "labels: [a, b]\n")
    params = compose_text([], conf).partition("data:\n")
    _, _, rest = params[2].partition("split:\n")
    own = "  name: own\n  path: data/raw/own.csv\n  language: en\n  columns: {text: t, label: l}\n  labels: [a, b]\n"
    (conf.parent / "params.yaml").write_text(f"data:\n{own}split:\n{rest}")
    with pytest.raises(ConfigError, match=r"conf/data/own\.yaml line 5: data\.labels: should be a mapping"):
        load_params(conf.parent / "params.yaml")
