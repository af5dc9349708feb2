"""Three data sets as teams bring them: a German Excel's export, decomposed Hangul, and 25 labels, two in some cells.

Each is written by code and equal every time. The texts of a label share words, so a model can learn it, and differ
enough not to be near-duplicates of each other.
"""

import random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import yaml

from reviewtune.data.tables import to_bytes

BETWEEN = (", ", "; ", " / ", " | ", " and ", ", ", "; ")  # between the labels of a cell with two


class Review(NamedTuple):
    text: str
    label: str


@dataclass(frozen=True)
class StrangeData:
    """A data set.

    Args:
        name: of the data set, and of its file in conf/data.
        file: its name in data/raw.
        content: its bytes.
        conf: the content of conf/data/NAME.yaml.
        reviews: what must be read from it, in order.
        labels: number of reviews per label.
        empty_rows: number of rows without content.
        new_file: name of a file to classify, in a format that is just as odd.
        new_content: its bytes.
    """

    name: str
    file: str
    content: bytes
    conf: str
    reviews: tuple[Review, ...]
    labels: Mapping[str, int]
    empty_rows: int
    new_file: str
    new_content: bytes

    def write(self, project: Path) -> Path:
        """Put the files and the description into a project; returns the file with the labelled reviews."""
        path = project / "data" / "raw" / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)
        (project / self.new_file).write_bytes(self.new_content)
        (project / "conf" / "data" / f"{self.name}.yaml").write_text(self.conf, encoding="utf-8")
        return path


def hotel_feedback() -> StrangeData:
    """Unbalanced feedback to a hotel: CSV UTF-8 of a German Excel, with `sep=;`, decimal commas and empty rows."""
    source, file = _Source.of("hotel"), "Gästefeedback Export.csv"
    reviews = source.reviews(seed=1)
    rows = [
        f"{1000 + i};{1 + i % 28:02d}.{1 + i % 12:02d}.2026;{_quoted(review.text)};{review.label};{1 + i % 4},{i % 10};"
        for i, review in enumerate(reviews)
    ]
    for place in (200, 61, 60, 7):
        rows.insert(place, ";;;;;")
    lines = ["sep=;", "Nr.;Datum;Gästebewertung;Kategorie;Note;", *rows, ";;;;;", ""]
    new = [f"{i};{_quoted(review.text)}" for i, review in enumerate(reviews[::40])]
    return StrangeData(
        name="hotel",
        file=file,
        content="\r\n".join(lines).encode("utf-8-sig"),
        conf=source.conf("hotel", file, "de", "{text: Gästebewertung, label: Kategorie, id: Nr.}"),
        reviews=reviews,
        labels=source.counts,
        empty_rows=5,
        new_file="neu.csv",
        new_content="\r\n".join(["sep=;", "Nr.;Gästebewertung", *new, ";", ""]).encode("utf-16"),
    )


def app_reviews() -> StrangeData:
    """Korean reviews of an app, exported on a Mac: header, texts and labels in decomposed Hangul (NFD)."""
    source, file = _Source.of("app_ko"), "app_reviews.csv"
    reviews = source.reviews(seed=2)
    lines = ["리뷰,분류,별점", *(f'"{r.text}\u200b",{r.label},{1 + i % 5}' for i, r in enumerate(reviews)), ""]
    new = ["리뷰", *(f'"{review.text}"' for review in reviews[::12]), ""]
    return StrangeData(
        name="app_ko",
        file=file,
        content=_decomposed("\n".join(lines)),
        conf=source.conf("app_ko", file, "ko", "{text: 리뷰, label: 분류}"),
        reviews=reviews,
        labels=source.counts,
        empty_rows=0,
        new_file="new_reviews.csv",
        new_content=_decomposed("\n".join(new)),
    )


def support_tickets(*, two_labels: bool = True) -> StrangeData:
    """Tickets with 25 labels: a CSV in which some cells hold two labels or, without these, an .xlsx."""
    source, file = _Source.of("tickets"), "tickets.csv" if two_labels else "tickets.xlsx"
    reviews, names = source.reviews(seed=3), list(source.topics)
    rows = [{"ticket": f"T-{i:04d}", "message": r.text, "topic": r.label} for i, r in enumerate(reviews)]
    for number, sign in enumerate(BETWEEN if two_labels else ()):
        row = rows[3 + 17 * number]
        row["topic"] += sign + names[(names.index(row["topic"]) + 9) % len(names)]
    new = [{"ticket": f"N-{i}", "message": review.text} for i, review in enumerate(reviews[::25])]
    return StrangeData(
        name="tickets",
        file=file,
        content=to_bytes(["ticket", "message", "topic"], rows, Path(file)),
        conf=source.conf("tickets", file, "en", "{text: message, label: topic, id: ticket}"),
        reviews=reviews,
        labels=source.counts,
        empty_rows=0,
        new_file="new.xlsx",
        new_content=to_bytes(["ticket", "message"], new, Path("new.xlsx")),
    )


class _Topic(NamedTuple):
    """What a label means, how many texts it has, and what they say."""

    meaning: str
    reviews: int
    phrases: Sequence[str]


class _Source(NamedTuple):
    """Sentences around a phrase, the same for all labels, and the phrases of each label."""

    openings: Sequence[str]
    endings: Sequence[str]
    topics: Mapping[str, _Topic]

    @classmethod
    def of(cls, name: str) -> Self:
        content = yaml.safe_load((Path(__file__).parent / "phrases" / f"{name}.yaml").read_text(encoding="utf-8"))
        topics = {label: _Topic(**topic) for label, topic in content["labels"].items()}
        return cls(content["openings"], content["endings"], topics)

    @property
    def counts(self) -> dict[str, int]:
        return {label: topic.reviews for label, topic in self.topics.items()}

    def reviews(self, seed: int) -> tuple[Review, ...]:
        rng, reviews, seen = random.Random(seed), list[Review](), {""}
        for label, topic in self.topics.items():
            for number in range(topic.reviews):
                text = ""
                while text in seen:
                    text = self._text(topic, rng, number)
                seen.add(text)
                reviews.append(Review(text, label))
        rng.shuffle(reviews)
        return tuple(reviews)

    def conf(self, name: str, file: str, language: str, columns: str) -> str:
        labels = "".join(f"  {label}: {topic.meaning}\n" for label, topic in self.topics.items())
        return f"name: {name}\npath: data/raw/{file}\nlanguage: {language}\ncolumns: {columns}\nlabels:\n{labels}"

    def _text(self, topic: _Topic, rng: random.Random, number: int) -> str:
        first, second = rng.sample(list(topic.phrases), 2)
        parts = [rng.choice(self.openings), first, second if number % 3 else "", rng.choice(self.endings)]
        return " ".join(part for part in parts if part).replace("{n}", str(rng.randrange(101, 999)))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ';"\n') else text


def _decomposed(text: str) -> bytes:
    return unicodedata.normalize("NFD", text).encode()
