"""Frozen sides: no review moves whatever happens to the data, and labels stay in proportion."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.core.project import ProjectPaths
from reviewtune.data.frozen_splits import Division, divide, freeze
from reviewtune.data.leakage import refuse_leak
from reviewtune.data.preparation import write_labeled, write_splits
from reviewtune.data.sides.frozen_file import read_frozen
from reviewtune.data.sides.side_names import GIVEN, Side
from reviewtune.data.splits import split
from reviewtune.errors import DataError
from tests.support.unbalanced import for_tickets, tickets

LABELS = {"billing": 16, "login": 12, "export": 9}
SHARES = {"test": 0.25, "validation": 0.2, "seed": 13, "similarity": 0.9}


@pytest.fixture(scope="module")
def own(config: Config) -> Config:
    """Labels of tickets, and the shares that the tests count with."""
    labels = dict.fromkeys([*LABELS, "refund"], 0)
    changed = for_tickets(config, labels)
    return changed.model_copy(update={"split": changed.split.model_copy(update=SHARES)})


def numbered(counts: Mapping[str, int], start: int = 0) -> pd.DataFrame:
    """So many tickets of each label, from this number on, with ids that say which they are."""
    table = tickets({label: start + n for label, n in counts.items()})
    place = table.groupby("label").cumcount()
    table = table.assign(review_id=table["label"] + "-" + place.astype(str))
    return table[place >= start].reset_index(drop=True)


def frozen_of(division: Division) -> dict[str, Side]:
    return {key: side for key, side in zip(division.keys, division.sides, strict=True) if side}  # type: ignore[misc]


def sides_of(division: Division, reviews: pd.DataFrame) -> dict[str, str]:
    return dict(zip(reviews["review_id"], division.sides, strict=True))


def with_ids(reviews: pd.DataFrame, prefix: str, ending: str = "!") -> pd.DataFrame:
    """Near-duplicates of the reviews."""
    return reviews.assign(review_id=prefix + reviews["review_id"], text=reviews["text"] + ending)


def in_proportion(division: Division, reviews: pd.DataFrame) -> None:
    """Within one review of the shares, for each label."""
    table = pd.DataFrame({"label": reviews["label"], "side": division.sides})
    for label, part in table.groupby("label"):
        n, counts = len(part), Counter(part["side"])
        assert abs(counts["test"] - SHARES["test"] * n) <= 1, label
        assert abs(counts["valid"] - SHARES["validation"] * (n - counts["test"])) <= 1, label


@settings(max_examples=25)
@given(data=st.data())
def test_no_frozen_review_moves_whatever_is_appended_removed_or_relabelled(own: Config, data: st.DataObject) -> None:
    before = numbered(LABELS)
    frozen = frozen_of(divide(before, own, {}))
    then = sides_of(divide(before, own, frozen), before)
    gone = data.draw(st.sets(st.sampled_from(before["review_id"].tolist()), max_size=10))
    wrong = data.draw(st.dictionaries(st.sampled_from(before["review_id"].tolist()), st.sampled_from([*LABELS])))
    more = data.draw(st.integers(1, 9))
    names, labels = before["review_id"].tolist(), before["label"].tolist()
    relabelled = before.assign(label=[wrong.get(name, label) for name, label in zip(names, labels, strict=True)])
    kept = relabelled[~relabelled["review_id"].isin(gone)]
    twins = with_ids(kept.sample(5, random_state=more), "twin-")
    parts = [kept, twins, tickets({"login": more, "export": 2}).assign(text=lambda t: t["text"] + " and again new")]
    after = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=more).reset_index(drop=True)
    changed = own.split.model_copy(update={"seed": data.draw(st.integers(0, 99)), "test": 0.4})
    division = divide(after, own.model_copy(update={"split": changed}), frozen)
    now = sides_of(division, after)
    assert {name: now[name] for name in kept["review_id"]} == {name: then[name] for name in kept["review_id"]}
    assert all(now[name] == then[name.removeprefix("twin-")] for name in twins["review_id"])


@settings(max_examples=25)
@given(counts=st.fixed_dictionaries({label: st.integers(0, 30) for label in LABELS}), rounds=st.integers(1, 3))
def test_labels_stay_in_proportion_when_reviews_are_added(own: Config, counts: dict[str, int], rounds: int) -> None:
    reviews, frozen = numbered(LABELS), dict[str, Side]()
    for _ in range(rounds + 1):
        division = divide(reviews, own, frozen)
        in_proportion(division, reviews)
        frozen |= frozen_of(division)
        sizes = Counter(reviews["label"])
        parts = [numbered({label: n}, start=sizes[label]) for label, n in counts.items() if n]
        reviews = pd.concat([reviews, *parts], ignore_index=True)


def test_without_frozen_sides_the_split_is_the_drawn_one(own: Config) -> None:
    reviews = numbered(LABELS)
    drawn = split(reviews, own.split, train_size="all")
    division = divide(reviews, own, {})
    assert all(ours.equals(theirs) for ours, theirs in zip(division.parts, drawn, strict=True))
    again = divide(reviews, own, frozen_of(division))
    assert all(ours.equals(theirs) for ours, theirs in zip(again.parts, drawn, strict=True))


def test_reviews_that_differ_in_personal_data_only_do_not_change_a_drawn_split(own: Config) -> None:
    """They have one hash, so once they are frozen they have one side; a project that freezes nothing never had that."""
    reviews = numbered(LABELS)
    users = ("jane.miller.of.springfield", "bob")
    twins = [f"mail me: {users[n % 2]}@{'abcdefghij'[n]}{'xyzuv'[n // 2] * 9}.example" for n in range(10)]
    reviews.loc[: len(twins) - 1, "text"] = twins
    drawn, division = split(reviews, own.split, train_size="all"), divide(reviews, own, {})
    assert len(set(division.keys[: len(twins)])) == 1
    assert all(ours.equals(theirs) for ours, theirs in zip(division.parts, drawn, strict=True))
    frozen = sides_of(divide(reviews, own, {division.keys[0]: "test"}), reviews)
    assert {frozen[name] for name in reviews["review_id"][: len(twins)]} == {"test"}


def test_the_side_of_a_new_review_depends_on_no_order(own: Config) -> None:
    frozen = frozen_of(divide(numbered(LABELS), own, {}))
    after = numbered({label: n + 7 for label, n in LABELS.items()})
    mixed = after.sample(frac=1, random_state=1).reset_index(drop=True)
    assert sides_of(divide(after, own, frozen), after) == sides_of(divide(mixed, own, frozen), mixed)


def test_a_new_label_is_on_all_sides_or_refused(own: Config) -> None:
    before = numbered(LABELS)
    frozen = frozen_of(divide(before, own, {}))
    for n in (3, 4, 9):
        after = pd.concat([before, numbered({"refund": n})], ignore_index=True)
        division = divide(after, own, frozen)
        new = {side for name, side in sides_of(division, after).items() if name.startswith("refund")}
        assert new == {"train", "valid", "test"}
    two = pd.concat([before, numbered({"refund": 2})], ignore_index=True)
    with pytest.raises(DataError, match="label 'refund' is new and has 2 distinct reviews; 3 are needed"):
        divide(two, own, frozen)


def test_a_label_that_lost_its_test_reviews_gets_the_next_one(own: Config) -> None:
    before = numbered(LABELS)
    division = divide(before, own, {})
    frozen, sides = frozen_of(division), sides_of(division, before)
    lost = before[[not (n.startswith("export") and sides[n] == "test") for n in before["review_id"]]]
    assert any("side test has no review of export" in note for note in divide(lost, own, frozen).notes)
    one_more = pd.concat([lost, numbered({"export": 1}, start=9)], ignore_index=True)
    repaired = divide(one_more, own, frozen)
    assert sides_of(repaired, one_more)["export-9"] == "test"
    assert not any("has no review of" in note for note in repaired.notes)


def test_relatives_on_two_sides_cause_no_leak_and_no_dead_end(own: Config) -> None:
    """The training review is left out and named; both keep their frozen side."""
    before = numbered(LABELS)
    twins = with_ids(before, "twin-")
    everything = pd.concat([before, twins], ignore_index=True).assign(given_split="")
    everything.loc[0, GIVEN] = "test"  # billing-0
    everything.loc[len(before), GIVEN] = "train"  # its twin
    everything.loc[everything["text"].duplicated(), "text"] += "?"
    division = divide(everything, own, {})
    sides = sides_of(division, everything)
    assert (sides["billing-0"], sides["twin-billing-0"]) == ("test", "")
    assert division.left_out == ("twin-billing-0",)
    assert any("1 review left out" in note and "twin-billing-0" in note for note in division.notes)
    train, valid, test = division.parts
    refuse_leak(test, {"train": train["text"].tolist(), "valid": valid["text"].tolist()}, similarity=0.9)


def test_a_review_between_two_frozen_ones_is_left_out_and_they_stay(own: Config) -> None:
    left, right = "the parcel came late and wet on monday", "monday it rained and the box was late again twice"
    bridge = f"{left} {right}"
    reviews = pd.concat([numbered(LABELS), tickets({"login": 3})], ignore_index=True)
    reviews.loc[len(reviews) - 3 :, "text"] = [left, right, bridge]
    reviews.loc[len(reviews) - 3 :, "review_id"] = ["left", "right", "bridge"]
    loose = own.model_copy(update={"split": own.split.model_copy(update={"similarity": 0.6})})
    sides = [""] * (len(reviews) - 3) + ["train", "test", ""]
    division = divide(reviews.assign(given_split=sides), loose, {})
    now = sides_of(division, reviews)
    assert (now["left"], now["right"], now["bridge"]) == ("train", "test", "")


def test_changed_shares_and_other_data_are_pointed_out(own: Config) -> None:
    before = numbered(LABELS)
    frozen = frozen_of(divide(before, own, {}))
    (kept,) = divide(before, own, frozen).notes
    assert kept == (
        "37 of 37 reviews keep their frozen side; split.test, split.validation and split.seed apply to no review"
    )
    larger = own.model_copy(update={"split": own.split.model_copy(update={"test": 0.5})})
    assert any("but split.test is 50.0 %" in note for note in divide(before, larger, frozen).notes)
    others = with_ids(before, "other-", " on every other day of the whole long week, I would say")
    (other,) = divide(others, own, {"0" * 64: "test"}).notes
    assert "none of the 37 reviews of" in other
    assert "which has 1 others" in other


def test_training_size_and_frozen_sides_go_together(own: Config) -> None:
    before = numbered(LABELS)
    frozen = frozen_of(divide(before, own, {}))
    small = own.model_copy(update={"data": own.data.model_copy(update={"train_size": 10})})
    whole, part = divide(before, own, frozen).parts, divide(before, small, frozen).parts
    assert part.test.equals(whole.test)
    assert len(part.train) == 10
    assert set(part.train["review_id"]) < set(whole.train["review_id"])


def test_masking_personal_data_later_moves_nothing(own: Config) -> None:
    plain = numbered(LABELS)
    plain["text"] += [f" write to jane{n}@mail.example" for n in range(len(plain))]
    masked = plain.assign(text=plain["text"].str.replace(r"jane\d+@mail.example", "[EMAIL]", regex=True))
    division = divide(plain, own, {})
    assert divide(masked, own, frozen_of(division)).sides == division.sides


class Project:
    """A folder with labelled reviews and what the steps prepare and split make of them."""

    def __init__(self, folder: Path, own: Config) -> None:
        self.paths = ProjectPaths(folder)
        columns = own.data.columns.model_copy(update={"id": "review_id", "second_label": None})
        data = own.data.model_copy(update={"path": Path("tickets.csv"), "columns": columns})
        self.config = own.model_copy(update={"data": data})
        self.frozen.parent.mkdir(parents=True)
        self.frozen.write_text("review_sha256_v1,side\n")

    @property
    def frozen(self) -> Path:
        return self.paths.frozen_splits

    def save(self, reviews: pd.DataFrame) -> None:
        reviews.to_csv(self.paths.root / self.config.data.path, index=False)

    def repro(self) -> tuple[str, ...]:
        write_labeled(self.config, self.paths.root / self.config.data.path, self.paths.labeled)
        return write_splits(self.config, self.paths.labeled, self.paths.splits, frozen=self.frozen)

    def splits(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.paths.splits.folder.iterdir())]


@pytest.fixture
def split_project(tmp_path: Path, own: Config) -> Project:
    labels = dict.fromkeys(LABELS, "about it")
    own = own.model_copy(update={"data": own.data.model_copy(update={"labels": labels})})
    made = Project(tmp_path / "project", own)
    made.save(numbered(LABELS))
    made.repro()
    return made


def test_freezing_changes_no_split_and_may_be_repeated(split_project: Project) -> None:
    before = split_project.splits()
    summary = freeze(split_project.paths, split_project.config)
    assert (sum(summary.newly_frozen.values()), summary.kept, summary.total) == (37, 0, 37)
    written = split_project.frozen.read_bytes()
    assert written.splitlines()[1:] == sorted(written.splitlines()[1:])
    split_project.repro()
    assert split_project.splits() == before
    again = freeze(split_project.paths, split_project.config)
    assert (again.newly_frozen, again.kept) == ({"train": 0, "valid": 0, "test": 0}, 37)
    assert split_project.frozen.read_bytes() == written


def test_the_whole_training_side_is_frozen_also_with_a_training_size(split_project: Project) -> None:
    data = split_project.config.data.model_copy(update={"train_size": 10})
    split_project.config = split_project.config.model_copy(update={"data": data})
    split_project.repro()
    assert freeze(split_project.paths, split_project.config).total == 37


def test_the_test_set_of_before_lasts_when_reviews_come(split_project: Project) -> None:
    freeze(split_project.paths, split_project.config)
    test = set(pd.read_csv(split_project.paths.splits.test)["review_id"])
    split_project.save(numbered({label: n + 10 for label, n in LABELS.items()}))
    notes = split_project.repro()
    assert any("30 are not frozen yet" in note for note in notes)
    now = set(pd.read_csv(split_project.paths.splits.test)["review_id"])
    assert test < now
    assert sum(freeze(split_project.paths, split_project.config).newly_frozen.values()) == 30


def test_stale_splits_are_refused_and_the_last_ones_are_frozen_in_time(split_project: Project) -> None:
    """Reviews that were added since the split are not frozen, and this is said; other settings are refused."""
    untouched = split_project.frozen.read_bytes()
    other_seed = split_project.config.split.model_copy(update={"seed": 99})
    with pytest.raises(DataError, match=r"csv is not what .*labeled.csv and params.yaml give .* `dvc repro split`"):
        freeze(split_project.paths, split_project.config.model_copy(update={"split": other_seed}))
    others = numbered(LABELS, start=50)
    split_project.save(others)
    with pytest.raises(DataError, match=r"labeled.csv is not of .*tickets.csv, so nothing was frozen"):
        freeze(split_project.paths, split_project.config)
    assert split_project.frozen.read_bytes() == untouched
    split_project.save(numbered({label: n + 2 for label, n in LABELS.items()}))
    summary = freeze(split_project.paths, split_project.config)
    assert summary.total == 37
    assert any("6 reviews of" in note and "dvc repro split" in note for note in summary.notes)


def test_without_splits_there_is_nothing_to_freeze(tmp_path: Path, own: Config) -> None:
    with pytest.raises(DataError, match=r"labeled.csv: no such file, so there are no splits to freeze; run `dvc repro"):
        freeze(ProjectPaths(tmp_path), own)


def test_two_data_sets_share_the_file(split_project: Project) -> None:
    freeze(split_project.paths, split_project.config)
    first = read_frozen(split_project.frozen)
    split_project.save(numbered(LABELS, start=60))
    assert any("none of the 37 reviews" in note for note in split_project.repro())
    assert freeze(split_project.paths, split_project.config).total == 74
    split_project.save(numbered(LABELS))
    split_project.repro()
    assert first.items() <= read_frozen(split_project.frozen).items()
    assert freeze(split_project.paths, split_project.config).kept == 37


class TestGivenSides:
    """A file with a column of sides (data.columns.split)."""

    @pytest.fixture
    def given(self, split_project: Project) -> Project:
        columns = split_project.config.data.columns.model_copy(update={"split": "part"})
        data = split_project.config.data.model_copy(update={"columns": columns})
        split_project.config = split_project.config.model_copy(update={"data": data})
        return split_project

    def sides(self, project: Project) -> dict[str, str]:
        folder = project.paths.splits
        parts = {side: pd.read_csv(folder.part(side), dtype=str) for side in ("train", "valid", "test")}
        return {name: side for side, part in parts.items() for name in part["review_id"]}

    def test_reviews_have_the_sides_of_their_file(self, given: Project) -> None:
        words = ["Training", "dev", "TEST", "", "validation", "train", "test", "train"]
        reviews = numbered(LABELS).assign(part=lambda t: [words[at % 8] for at in range(len(t))])
        given.save(reviews)
        given.repro()
        sides = self.sides(given)
        meant = {"Training": "train", "train": "train", "dev": "valid", "validation": "valid", "TEST": "test"}
        told = {r.review_id: meant.get(str(r.part), r.part) for r in reviews.itertuples() if r.part}
        assert told.items() <= sides.items()
        assert len(sides) == 37

    def test_a_file_of_training_and_test_reviews_gets_a_validation_split(self, given: Project) -> None:
        reviews = numbered(LABELS).assign(part=lambda t: ["test" if at % 4 == 0 else "train" for at in range(len(t))])
        given.save(reviews)
        given.repro()
        sides = self.sides(given)
        assert {name for name, side in sides.items() if side == "test"} == set(reviews["review_id"][::4])
        assert Counter(sides.values())["valid"] == pytest.approx(0.2 * 27, abs=2)
        freeze(given.paths, given.config)
        given.repro()
        assert self.sides(given) == sides

    def test_the_only_training_review_of_a_label_stays(self, given: Project) -> None:
        reviews = numbered(LABELS).assign(part=lambda t: ["test" if at % 4 == 0 else "train" for at in range(len(t))])
        reviews.loc[reviews["label"] == "export", "part"] = ["train", *["test"] * (LABELS["export"] - 1)]
        given.save(reviews)
        notes = given.repro()
        assert self.sides(given)["export-0"] == "train"
        assert "side valid has no review of export: no review moves, so label new ones" in notes

    def test_an_unknown_side_is_refused_with_its_line(self, given: Project) -> None:
        given.save(numbered(LABELS).assign(part=["trian", *["test"] * 36]))
        with pytest.raises(
            DataError, match=r"line 2: 'trian' is not a side of the split \(column part\); did you mean"
        ):
            given.repro()

    def test_a_missing_column_and_an_empty_side_are_refused(self, given: Project) -> None:
        given.save(numbered(LABELS))
        with pytest.raises(DataError, match="no column 'part'"):
            given.repro()
        given.save(numbered(LABELS).assign(part="train"))
        with pytest.raises(DataError, match="no review is on side test"):
            given.repro()

    def test_a_file_cannot_move_a_frozen_review_into_the_test_side(self, given: Project) -> None:
        reviews = numbered(LABELS).assign(part=lambda t: ["test" if at % 4 == 0 else "train" for at in range(len(t))])
        given.save(reviews)
        given.repro()
        freeze(given.paths, given.config)
        reviews.loc[1, "part"] = "test"
        given.save(reviews)
        with pytest.raises(DataError, match=r"1 review would move between training and test: billing-1 \(test, frozen"):
            given.repro()

    def test_equal_texts_on_two_sides_stay_on_the_protected_one(self, given: Project) -> None:
        reviews = numbered(LABELS).assign(part=lambda t: ["test" if at % 4 == 0 else "train" for at in range(len(t))])
        copy = reviews.iloc[[0]].assign(review_id="copy", part="train", text=reviews["text"][0].upper())
        given.save(pd.concat([copy, reviews], ignore_index=True))
        given.repro()
        assert self.sides(given)["copy"] == "test"
        freeze(given.paths, given.config)
        given.repro()
