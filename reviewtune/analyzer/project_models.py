"""The models of a project: the champion of its registry, its last fine-tune, its base model."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from reviewtune.analyzer.champion import Champion, ChampionSource, RegistrySource
from reviewtune.analyzer.champion_chain import ChainOptions, single_chain
from reviewtune.analyzer.classifier import Classifier
from reviewtune.analyzer.fallback import Chain, Member
from reviewtune.analyzer.open_classifier import open_base, open_finetuned
from reviewtune.core.config.config import Config
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.errors import ConfigError, installing
from reviewtune.providers.lifecycle import names_of

LIGHT = (
    "ReviewAnalyzer: without a project it needs served_model=FOLDER, a folder that `reviewtune champion --out FOLDER` "
    "wrote; for the models of a project: "
)


class ProjectModels:
    """Opens the models of a project.

    Args:
        paths: the project's files.
        options: how models are opened; the attribute `options` also has the project's limits and what ends.

    Raises:
        ConfigError: params.yaml is missing or not valid, or the packages of a project are not installed.
    """

    def __init__(self, paths: ProjectPaths, options: ChainOptions) -> None:
        if find_spec("omegaconf") is None:
            raise ConfigError(LIGHT + installing("project"))
        from reviewtune.core.config.loading import load_params  # imports PyYAML

        self._paths, self._config = paths, load_params(paths.params)
        limits = self._config.evaluation
        if not options.is_capped:  # a request of an application has no cap, so it needs no prices either
            limits = limits.model_copy(update={"budget_usd": None})
        self.options = replace(options, lifecycle=self._config.lifecycle, limits=limits)

    def registry(self) -> ChampionSource:
        """The registry of the project; one without a champion if MLflow is not installed."""
        settings = self._config.tracking
        if find_spec("mlflow") is None:
            return NoRegistry()
        if settings.uri is None and self._paths.root.resolve() != project_root().resolve():
            from reviewtune.tracking.addresses import database_address

            database = self._paths.root.resolve() / "mlruns" / "mlflow.db"
            if not database.exists():
                return NoRegistry()
            settings = settings.model_copy(update={"uri": database_address(database)})
        return RegistrySource(settings, self._config.registered_name, self._paths.work / "champion")

    def last_finetuned(self) -> Chain:
        """The fine-tuned model of the last `dvc repro`.

        Raises:
            ConfigError: the configuration describes other data, labels or prompt than it was trained with.
            DataError: there is none.
        """
        return self.finetuned(None)

    def finetuned(self, model: str | None) -> Chain:
        """A fine-tuned model by its name; None: that of the last `dvc repro`."""
        from reviewtune.finetuning.model_record import fitting_record

        record = fitting_record(self._paths.model_record, model, self._config)
        name = model or (record.model if record else "")
        options = self.options
        classifier = open_finetuned(name, self._config, seconds=options.seconds, progress=options.progress)
        names = names_of(name, self._config.provider.base_model)
        return _single(name, classifier, self._config, options, names)

    def base(self, model: str | None) -> Chain:
        """The base model, with the prompt that lists the labels; `model` instead of provider.base_model."""
        options = self.options
        classifier = open_base(model, self._config, seconds=options.seconds, progress=options.progress)
        return _single(classifier.model, classifier, self._config, options, (classifier.model,))


class NoRegistry:
    """Where no champion can be."""

    def look(self) -> None:
        return None

    def last_known(self) -> None:
        return None

    def remember(self, champion: Champion) -> None:
        pass

    def fetch(self, version: str) -> Path:
        raise AssertionError(f"there is no champion, so no version {version}")


def _single(title: str, classifier: Classifier, config: Config, options: ChainOptions, names: tuple[str, ...]) -> Chain:
    member = Member(title, lambda: classifier, rest=options.rest, limit=options.limit)
    return single_chain(member, config, options, names=names)
