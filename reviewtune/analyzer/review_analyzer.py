"""For applications: `ReviewAnalyzer().categorize_issues(["Still waiting ...", ...])`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from reviewtune.analyzer import background_loop
from reviewtune.analyzer.champion import Champion, ChampionSource, FolderSource
from reviewtune.analyzer.champion_chain import ChainOptions, champion_chain
from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.classifier import Classifier, classification_of, texts_of
from reviewtune.analyzer.fallback import Chain
from reviewtune.analyzer.follow import Follower
from reviewtune.analyzer.issues import IssueChange, IssueShare, issue_changes, issue_shares
from reviewtune.analyzer.project_models import ProjectModels
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import SILENT, Progress

REFRESH_SECONDS = 30.0


class ReviewAnalyzer:
    """Classifies reviews by their main issue. Threads and event loops may share it.

    Without arguments it asks the champion of the model registry, and another one as soon as that is promoted. If there
    is none, it asks the fine-tuned model of the last `dvc repro`. If the champion does not answer a review, the next
    model of the chain does: the champion before, the zero-shot arm; and a review that none can answer has no label.
    The log says so once (`logging`, logger reviewtune.analyzer), and once if its model ends within
    lifecycle.warn_days. Nothing else is reported unless there is a `progress`.

    Args:
        use_finetuned: False asks the base model with the label list in its prompt; expect much worse answers.
        finetuned_model: the name of a fine-tuned model, such as "ft:..."; None: the champion.
        base_model: asked instead of provider.base_model if `use_finetuned` is False.
        served_model: a folder that `reviewtune champion --out FOLDER` wrote, which is followed instead of the
            registry. It needs no project, no MLflow and no DVC.
        fallbacks: who answers when the first model does not: "previous", names of arms, and "unsure" as the last, which
            means no label; None: after a champion as above, after any other model nobody. Without "unsure", a fault
            that concerns all reviews of a call is raised.
        refresh: seconds between two looks for another champion, and without a question to a model that failed several
            times in a row.
        timeout: seconds that an answer of a model may take, retries included; None: provider.timeout.
        call_timeout: seconds that one model of the chain may take for all reviews of a call. Then the next one is asked
            about those without an answer. None: as long as the answers take.
        cache: keep answers in the cache of `reviewtune evaluate`, as a command does for a file; then the first model
            answers alone, and only the methods that are not asynchronous are affected. By default nothing is written.
        project: the project's folder; None: the one that contains the current folder.
        progress: receives messages and, with `cache`, progress bars, such as
            `reviewtune.core.terminal.progress.TerminalProgress()`; None: nothing is reported.

    Raises:
        ConfigError: params.yaml is missing or not valid, it describes a different data set, labels or prompt than the
            model was trained with, there is a budget for a provider without prices, or a package is not installed.
        DataError: there is no model yet, or its folder is damaged.
        TrackingError: the registry does not answer, and no champion was fetched from it before.
    """

    def __init__(
        self,
        use_finetuned: bool = True,
        finetuned_model: str | None = None,
        *,
        base_model: str | None = None,
        served_model: Path | str | None = None,
        fallbacks: Sequence[str] | None = None,
        refresh: float = REFRESH_SECONDS,
        timeout: float | None = None,
        call_timeout: float | None = None,
        cache: bool = False,
        project: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._cache, self._progress = cache, progress or SILENT
        paths = None if served_model is not None else ProjectPaths(project or project_root())
        options = ChainOptions(
            fallbacks=fallbacks,
            rest=refresh,
            seconds=timeout,
            limit=call_timeout,
            project=paths,
            progress=self._progress,
            is_capped=cache,
        )
        self._chain: Callable[[], Chain]
        if paths is None:
            self._chain = _followed(FolderSource(Path(str(served_model))), None, options, refresh)
        elif use_finetuned and finetuned_model is None:
            models = ProjectModels(paths, options)
            self._chain = _followed(models.registry(), models.last_finetuned, models.options, refresh)
        else:
            models = ProjectModels(paths, options)
            chain = models.finetuned(finetuned_model) if use_finetuned else models.base(base_model)
            self._chain = lambda: chain

    @property
    def model(self) -> str:
        """The name of the model that answers first."""
        return self._chain().head.model

    @property
    def version(self) -> str | None:
        """Its version in the registry, or of its folder; None: it is not a served model."""
        return self._chain().head.version

    @property
    def labels(self) -> tuple[str, ...]:
        return self._chain().head.labels

    @property
    def is_calibrated(self) -> bool:
        """Whether labels come with a confidence: those of a promoted model do, if it returns log-probabilities."""
        return self._chain().head.is_calibrated

    def categorize_issues(self, reviews: Iterable[str | None]) -> list[str | None]:
        """One label for each review, in order; None for a review without one: `classify_reviews` says why.

        Args:
            reviews: a list, or a column of a table. A missing text, such as None or NaN, counts as an empty review.

        Raises:
            ProviderError: no model of the chain answered, and the chain does not end with `unsure`.
            DataError: `reviews` is a single text, or something in it is not a text.
        """
        return [result.label for result in self.classify_reviews(reviews)]

    async def acategorize_issues(self, reviews: Iterable[str | None]) -> list[str | None]:
        """As `categorize_issues`, without blocking the event loop."""
        return [result.label for result in await self.aclassify_reviews(reviews)]

    def classify_reviews(self, reviews: Iterable[str | None]) -> list[Classification]:
        """The label of each review, in order, with its confidence, or the reason why it has none.

        Other reviews are not affected by one without a label.

        Raises:
            ProviderError, DataError: as `categorize_issues`.
        """
        if not self._cache:
            return background_loop.run(self.aclassify_reviews(reviews))
        outcomes = self._chain().head.classify(texts_of(reviews), cache=True, progress=self._progress)
        return [classification_of(outcome) for outcome in outcomes]

    async def aclassify_reviews(self, reviews: Iterable[str | None]) -> list[Classification]:
        """As `classify_reviews`, without blocking the event loop; call it from as many tasks at once as you like.

        Each event loop has one client with one pool of connections. Nothing is written to the disk. All reviews of a
        call are answered by the same chain, also while the champion changes.
        """
        return await self._chain().aclassify(texts_of(reviews))

    def pinned(self) -> Classifier:
        """The model that answers first now, alone: for work that must not change to another champion."""
        return self._chain().head

    def written(self, reviews: Iterable[str | None]) -> list[str]:
        """The reviews as the first model gets them, in order: normalised, and masked if its training reviews were.

        Raises:
            ReviewtuneError: the model cannot be opened.
        """
        return self._chain().head.written(texts_of(reviews))

    def top_issues(self, reviews: Iterable[str | None]) -> list[IssueShare]:
        """The labels of the reviews, the most frequent first, each with its share and a 95 % interval.

        Raises:
            ProviderError, DataError: as `categorize_issues`.
        """
        return issue_shares(self.categorize_issues(reviews))

    def emerging_issues(self, earlier: Iterable[str | None], later: Iterable[str | None]) -> list[IssueChange]:
        """The labels whose share is significantly larger in the later reviews, the largest growth first.

        Each label is tested (Fisher's exact test), and the p-values are adjusted for the number of labels (Holm), so
        that without any change a label is reported in at most 5 of 100 calls.

        Raises:
            ProviderError, DataError: as `categorize_issues`.
        """
        before, after = texts_of(earlier), texts_of(later)
        labels = self.categorize_issues([*before, *after])
        changes = issue_changes(labels[: len(before)], labels[len(before) :], self.labels)
        return [change for change in changes if change.is_emerging]

    def ready(self) -> bool:
        """Whether a model can be asked now; `unready` says why not."""
        return self.unready() is None

    def unready(self) -> str | None:
        """Why no model can be asked now; None: one can, as far as is known without asking it.

        It makes ready what the first answer needs, such as the local provider's server, which may take seconds. Models
        that failed several times in a row count as not ready until they may be asked again, after `refresh` seconds.
        """
        return self._chain().unready()


def _followed(
    source: ChampionSource, otherwise: Callable[[], Chain] | None, options: ChainOptions, refresh: float
) -> Callable[[], Chain]:
    """Returns the chain of the champion; `otherwise` is the one while there is no champion."""

    def chain_of(champion: Champion | None, before: Chain | None) -> Chain:
        if champion is not None:
            return champion_chain(champion, source, before, options)
        assert otherwise is not None, "a folder always has a champion"
        return otherwise()

    return Follower(source, chain_of, refresh=refresh).chain
