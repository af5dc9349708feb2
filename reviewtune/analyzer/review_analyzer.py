"""For applications: `ReviewAnalyzer().categorize_issues(["Still waiting ...", ...])`."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reviewtune.analyzer.classification import Classification
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.normalisation import normalise
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation.evaluate import ask_all, why_unusable
from reviewtune.evaluation.subject import ModelSubject, zero_shot_arm
from reviewtune.finetuning.model_record import fitting_record
from reviewtune.providers.call_policy import CallPolicy


class ReviewAnalyzer:
    """Classifies reviews by their main issue, with the fine-tuned model of the last `dvc repro` or the base model.

    It writes nothing to the terminal unless it gets a `progress`.

    Args:
        use_finetuned: False asks the base model with the label list in its prompt; expect much worse answers.
        finetuned_model: the name of a fine-tuned model, such as "ft:..."; None: the one in models/finetuned.json.
        base_model: asked instead of provider.base_model if `use_finetuned` is False.
        project: the project's folder; None: the one that contains the current folder.
        progress: receives messages and progress bars, such as
            `reviewtune.core.terminal.progress.TerminalProgress()`; None: nothing is reported.

    Raises:
        ConfigError: params.yaml is missing or not valid, it describes a different data set, labels or prompt than the
            model was trained with, or there is a budget for a provider without prices.
        DataError: there is no fine-tuned model yet.
    """

    def __init__(
        self,
        use_finetuned: bool = True,
        finetuned_model: str | None = None,
        *,
        base_model: str | None = None,
        project: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        paths = ProjectPaths(project or project_root())
        self._config, self._progress = load_params(paths.params), progress or SILENT
        if use_finetuned:
            record = fitting_record(paths.model_record, finetuned_model, self._config)
            model = finetuned_model or (record.model if record else "")
            self._subject = _label_only(ModelSubject.of_finetuned(model, self._config))
        else:
            self._subject = _label_only(_base_subject(base_model, self._config))
        self.model = self._subject.model

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._config.data.labels)

    def categorize_issues(self, reviews: Sequence[str]) -> list[str | None]:
        """One label for each review, in order; None for a review without one: `sort` says why.

        Raises:
            ProviderError: the provider could not be reached, or it refused the requests.
        """
        return [result.label for result in self.sort(reviews)]

    async def acategorize_issues(self, reviews: Sequence[str]) -> list[str | None]:
        """As `categorize_issues`, without blocking the event loop."""
        return [result.label for result in await self.aclassify_reviews(reviews)]

    def classify_reviews(self, reviews: Sequence[str]) -> list[Classification]:
        """The label of each review, in order, with confidence, model and version, or the reason why it has none."""
        return self.sort(reviews)

    async def aclassify_reviews(self, reviews: Sequence[str]) -> list[Classification]:
        """As `classify_reviews`, without blocking the event loop; call it from as many requests at once as you like.

        Each event loop has one client with one pool of connections. Nothing is written to the disk.
        """
        return await asyncio.to_thread(self.sort, reviews)

    @property
    def version(self) -> str | None:
        """The version of the served model that answers now, as of the registry; None: it is not a served model."""
        return None

    def ready(self) -> bool:
        """Whether the model can be asked now: it is open, and its provider answered the last request.

        Opens the model if it is not open, which starts the local provider's server. It may take seconds then.
        """
        return True

    def close(self) -> None:
        """Close connections and stop following the champion; also done when the program ends."""

    def sort(self, reviews: Sequence[str]) -> list[Classification]:
        """The label of each review, in order, or the reason why it has none; other reviews are not affected.

        Raises:
            ProviderError: as `categorize_issues`.
        """
        texts = [normalise(review) for review in reviews]
        results = iter(self._ask([text for text in texts if text]))
        return [next(results) if text else Classification(None, why="the review is empty") for text in texts]

    def _ask(self, texts: list[str]) -> list[Classification]:
        if not texts:
            return []
        asked = ask_all(self._subject, texts, title="classifying", progress=self._progress)
        labels = [self._subject.prompt.parse(answer.text) for answer in asked.answers]
        return [
            Classification(label, model=self.model, why=None if label else why_unusable(answer))
            for label, answer in zip(labels, asked.answers, strict=True)
        ]


def _base_subject(model: str | None, config: Config) -> ModelSubject:
    """The base model, asked as the fine-tuned one is, but with the zero-shot arm's prompt, which lists the labels."""
    _, arm = zero_shot_arm(config)
    return replace(
        ModelSubject.of_finetuned(model or config.provider.base_model, config),
        kind="prompt",
        prompt=Prompt(arm.prompt, config.data.labels),
        policy=CallPolicy.of(config.provider, config.evaluation, config.prices, "base"),
    )


def _label_only(subject: ModelSubject) -> ModelSubject:
    """The subject, asked once and for the label alone."""
    return replace(subject, asking=subject.asking.model_copy(update={"label_scores": "none", "repeats": 0}))
