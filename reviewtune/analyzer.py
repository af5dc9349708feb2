"""For applications: `ReviewAnalyzer().categorize_issues(["Still waiting ...", ...])`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from reviewtune.core.config import Config, PromptArmConfig
from reviewtune.core.config_loading import load_params
from reviewtune.core.project import project_root
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import normalise
from reviewtune.errors import ConfigError
from reviewtune.evaluation.evaluate import ask_all, why_unusable
from reviewtune.evaluation.subject import Subject
from reviewtune.finetuning.model_record import read_record


class Sorted(NamedTuple):
    """`label` is None where there is none, and `why` then says why."""

    label: str | None
    why: str | None


class ReviewAnalyzer:
    """Sorts reviews by their main issue, with the fine-tuned model of the last `dvc repro` or with the base model.

    Args:
        use_finetuned: False asks the base model with the label list in its prompt: expect much worse answers.
        finetuned_model: a model's name, such as "ft:..."; None takes the one in models/finetuned.json.
        project: the project's folder; None finds it from the current folder.

    Raises:
        ConfigError, DataError: no valid params.yaml, or no fine-tuned model yet.
    """

    def __init__(
        self, use_finetuned: bool = True, finetuned_model: str | None = None, *, project: Path | None = None
    ) -> None:
        root = project or project_root()
        self._config = load_params(root / "params.yaml")
        if use_finetuned:
            self.model = finetuned_model or read_record(root / "models" / "finetuned.json").model
            self._prompt = Prompt(self._config.prompt, self._config.data.labels)
        else:
            self.model, self._prompt = self._config.provider.base_model, _base_prompt(self._config)
        how = Subject.of_finetuned(self.model, self._config)
        kind: Literal["finetuned", "prompt"] = "finetuned" if use_finetuned else "prompt"
        self._subject = replace(how, kind=kind, prompt=self._prompt, label_scores="none", repeats=0)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._config.data.labels)

    def categorize_issues(self, reviews: Sequence[str]) -> list[str | None]:
        """One label of the list for each review, in order; None where there is none: `sort` says why.

        Raises:
            ProviderError: the provider could not be reached or refused; no review is skipped in silence.
        """
        return [one.label for one in self.sort(reviews)]

    def sort(self, reviews: Sequence[str]) -> list[Sorted]:
        """The label of each review, in order, or why it has none; one that cannot be sorted keeps no other back.

        Raises:
            ProviderError: as `categorize_issues`.
        """
        texts = [normalise(review) for review in reviews]
        asked = iter(self._ask([text for text in texts if text]))
        return [next(asked) if text else Sorted(None, "the review is empty") for text in texts]

    def _ask(self, texts: list[str]) -> list[Sorted]:
        if not texts:
            return []
        config = self._config
        asked = ask_all(self._subject, texts, config.prices, config.evaluation, title="classifying")
        labels = [self._prompt.parse(answer.text) for answer in asked.answers]
        return [
            Sorted(label, None if label else why_unusable(answer))
            for label, answer in zip(labels, asked.answers, strict=True)
        ]


def _base_prompt(config: Config) -> Prompt:
    """The zero-shot arm's prompt, which names the labels: an untaught model has to be told them."""
    for arm in config.arms.values():
        if isinstance(arm, PromptArmConfig) and arm.shots == 0 and not arm.reasoning:
            return Prompt(arm.prompt, config.data.labels)
    raise ConfigError("arms: no prompt arm without examples, whose prompt the base model needs; add conf/arm/zero_shot")
