"""One prompt object for training, inference and parsing, so that a model is asked exactly what it was trained on.

Nothing here depends on a provider. The labels are those of conf/data; any other answer is unusable.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypedDict

from reviewtune.core.config.config import Config
from reviewtune.core.config.training import PromptConfig

if TYPE_CHECKING:
    import pandas as pd

MAX_REASON_CHARACTERS = 100


class Message(TypedDict):
    role: str
    content: str


class Line(TypedDict):
    """One line of a chat JSONL file."""

    messages: list[Message]
    tools: NotRequired[list[Any]]
    functions: NotRequired[list[Any]]  # the older form


@dataclass(frozen=True)
class Prompt:
    """How a model is asked about a review, and how its answer is parsed."""

    settings: PromptConfig
    labels: Mapping[str, str]  # label -> one-line meaning
    reasoning: bool = False  # if set, the answer has a reason before the label
    examples: tuple[tuple[str, str], ...] = ()  # (text, label), shown before the review

    @classmethod
    def of(cls, config: Config) -> Self:
        """The prompt for training and inference, from the section `prompt` and the labels."""
        return cls(config.prompt, config.data.labels)

    def messages(self, text: str) -> list[Message]:
        """The system message, the examples as user and assistant turns, and the review as the last user turn."""
        turns = [Message(role="system", content=self.system)]
        for example, label in self.examples:
            turns += [self._user(example), Message(role="assistant", content=self.answer(label))]
        return [*turns, self._user(text)]

    def line(self, text: str, label: str) -> Line:
        """The training example: the messages of inference, and the answer."""
        return Line(messages=[*self.messages(text), Message(role="assistant", content=self.answer(label))])

    def answer(self, label: str) -> str:
        """The answer that the model is trained to give for this label."""
        if self.settings.answer == "label":
            return label
        reason = {"reasoning": self.labels[label][:MAX_REASON_CHARACTERS]} if self.reasoning else {}
        return json.dumps({**reason, "label": label}, ensure_ascii=False)

    def parse(self, answer: str) -> str | None:
        """The label in an answer; None for an unusable one. It never guesses from a text with several labels."""
        if self.settings.answer == "label":
            return answer.strip() if answer.strip() in self.labels else None
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return None
        label = value.get("label") if isinstance(value, dict) else None
        return label if isinstance(label, str) and label in self.labels else None

    def readings(self, answer: str) -> dict[str, bytes]:
        """This answer with each label in the place of its own, as UTF-8 up to the label's end.

        Empty if the answer has no place for a label.
        """
        if self.settings.answer == "label":
            return {label: label.encode() for label in self.labels}
        places = list(re.finditer(r'"label"\s*:\s*(?=")', answer))
        if not places:
            return {}
        before = answer[: places[-1].end()]
        return {label: (before + json.dumps(label, ensure_ascii=False)).encode() for label in self.labels}

    @cached_property
    def system(self) -> str:
        listing = "\n".join(f"- {name}: {meaning}" for name, meaning in self.labels.items())
        return self.settings.system.replace("{labels}", listing).replace("{answer}", self._form)

    @cached_property
    def response_format(self) -> dict[str, Any] | None:
        """The json_schema that allows only these labels; None if an answer is a bare label."""
        if self.settings.answer == "label":
            return None
        properties: dict[str, Any] = {"label": {"type": "string", "enum": list(self.labels)}}
        if self.reasoning:
            properties = {"reasoning": {"type": "string", "maxLength": MAX_REASON_CHARACTERS}, **properties}
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": "issue", "strict": True, "schema": schema}}

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever the messages, the answers or the schema change."""
        shown = [self.messages("{text}"), [self.answer(label) for label in self.labels], self.response_format]
        return hashlib.sha256(json.dumps(shown, ensure_ascii=False).encode()).hexdigest()[:16]

    @property
    def _form(self) -> str:
        """The form of an answer, in words."""
        if self.settings.answer == "label":
            return "the label alone"
        reason = '"reasoning": "one short sentence", ' if self.reasoning else ""
        return f'{{{reason}"label": "..."}}'

    def _user(self, text: str) -> Message:
        return Message(role="user", content=self.settings.user.replace("{text}", text))


def draw_examples(pool: "pd.DataFrame", labels: Sequence[str], shots: int, seed: int) -> tuple[tuple[str, str], ...]:
    """Draw examples for a few-shot prompt at random.

    Args:
        pool: labelled reviews, with the columns text and label.
        labels: the labels to draw for.
        shots: examples per label; of a label with fewer reviews all are drawn (`scarce_labels` names these labels).
        seed: seed of the draw.

    Returns:
        Pairs of text and label, in random order.
    """
    if not shots:
        return ()
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn: dict[str, list[str]] = {}
    for label in labels:
        texts = pool.loc[pool["label"] == label, "text"].tolist()
        drawn[label] = [texts[i] for i in rng.permutation(len(texts))[:shots]]
    order = [(label, shot) for shot in range(shots) for label in labels if shot < len(drawn[label])]
    return tuple((drawn[label][shot], label) for label, shot in (order[i] for i in rng.permutation(len(order))))


def scarce_labels(pool: "pd.DataFrame", labels: Sequence[str], least: int) -> dict[str, int]:
    """Number of reviews in the pool of each label with fewer than `least`, the rarest first."""
    counts = pool["label"].value_counts()
    scarce = {label: int(counts.get(label, 0)) for label in labels if counts.get(label, 0) < least}
    return dict(sorted(scarce.items(), key=lambda item: item[1]))
