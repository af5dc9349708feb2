"""`reviewtune export`: a model of the local provider as a folder that other programs open, with a README to use it."""

from dataclasses import dataclass
from pathlib import Path

from reviewtune.core.atomic_files import write_text
from reviewtune.core.config.config import Config
from reviewtune.core.project import ProjectPaths
from reviewtune.core.result_file import read_result, write_result
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.core.user_dirs import account_folder
from reviewtune.data.chat.chat_files import numbered_lines
from reviewtune.data.prompts import Prompt
from reviewtune.deployment.export_folder import MARKER, ExportRecord, new_folder, refuse_bad_out
from reviewtune.deployment.export_readme import modelfile, readme
from reviewtune.deployment.model_writer import Found, Written, in_words, write_model
from reviewtune.errors import ConfigError, DataError, ProviderError
from reviewtune.evaluation.subject import zero_shot_arm
from reviewtune.finetuning.model_record import ModelRecord, fitting_record, texts_of
from reviewtune.finetuning.run_file import FinetuneRun


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export, and where to.

    Args:
        model: a fine-tune, a checkpoint or a base model; None: the project's last fine-tune.
        out: the folder to write.
        adapter: the low-rank adapter alone instead of all weights.
        force: replace an earlier export.
        data_dir: the account's folder; None: the user's own.
    """

    model: str | None
    out: Path
    adapter: bool = False
    force: bool = False
    data_dir: Path | None = None


def export(options: ExportOptions, config: Config, root: Path, *, progress: Progress = SILENT) -> ExportRecord:
    """Write a model with its tokenizer, its prompt and a README into a folder.

    Args:
        options: what to export, and where to.
        config: the configuration, which describes the prompt and the labels.
        root: the project's folder.
        progress: receives messages.

    Raises:
        ConfigError: the model was trained with another prompt or data than the configuration describes.
        DataError: there is no fine-tuned model yet, or the folder cannot be written.
        ProviderError: the model is not one of the local provider, or its weights cannot be read.
    """
    refuse_bad_out(options.out, force=options.force)
    paths = ProjectPaths(root)
    record = fitting_record(paths.model_record, options.model, config)
    name = options.model or (record.model if record else "")
    _refuse_hosted(name, record, config)
    account = (options.data_dir or account_folder()).expanduser()
    with new_folder(options.out) as folder:
        base_models = _base_models(name, config)
        written = write_model(
            name,
            folder,
            account,
            base_models,
            adapter=options.adapter,
            check=lambda found: _refuse_other_prompt(name, found, record, config),
            progress=progress,
        )
        prompt = _prompt(written, config)
        result = _record(name, written, record, prompt, config, run_id=_run_id(paths) if record else "")
        result = result.model_copy(update={"kind": "adapter" if options.adapter else "merged"})
        write_text(readme(result, prompt, written), folder / "README.md")
        if not options.adapter:
            write_text(modelfile(prompt, written), folder / "Modelfile")
        write_result(result, folder / MARKER)
        size = sum(file.stat().st_size for file in folder.iterdir())
    progress.message(f"exported {name} to {options.out} ({in_words(size)}); its README.md says how to use it")
    return result


def _refuse_hosted(name: str, record: ModelRecord | None, config: Config) -> None:
    """Only the local provider's weights are on this machine."""
    kind = record.provider if record else config.provider.kind
    is_hosted = name.startswith("ft:") and ":local:" not in name
    if (record and kind != "local") or is_hosted or (kind != "local" and ":local:" not in name):
        raise ProviderError(
            f"{name} is a model of provider {'openai' if is_hosted and kind == 'local' else kind}: the weights of "
            "hosted models cannot be exported; fine-tune with provider=local for a model that can be"
        )


def _base_models(name: str, config: Config) -> list[str]:
    """The base models besides the built-in ones: the configuration's, and one that is a folder or a hub name."""
    is_base = not name.startswith("ft:") and ("/" in name or (Path(name) / "config.json").is_file())
    own = [config.provider.base_model] if config.provider.kind == "local" else []
    return [*own, *([name] if is_base else [])]


def _prompt(found: Found, config: Config) -> Prompt:
    """The prompt that the model was trained with; for a base model the one that lists the labels."""
    return Prompt.of(config) if found.job_id else Prompt(zero_shot_arm(config)[1].prompt, config.data.labels)


def _refuse_other_prompt(name: str, found: Found, record: ModelRecord | None, config: Config) -> None:
    """Refuse a model of another prompt than the README would describe; `fitting_record` has checked the project's own.

    Raises:
        ConfigError: the model was trained with another prompt than the configuration describes.
    """
    prompt = _prompt(found, config)
    if record is None and found.training_file and not _is_prompt_of(Path(found.training_file), prompt):
        raise ConfigError(
            f"{name} was trained with another prompt or other labels than params.yaml describes "
            f"({prompt.settings.name}), so its README would be wrong; "
            "`reviewtune apply RUN_ID` restores the settings of its run"
        )


def _is_prompt_of(training: Path, prompt: Prompt) -> bool:
    """Whether the training file was written with this prompt and these labels."""
    try:
        texts_of(training, prompt.settings)
    except (DataError, LookupError, TypeError):
        return False
    lines = [line["messages"] for _, line in numbered_lines(training)]
    answers = [prompt.parse(messages[-1]["content"]) for messages in lines]
    return all(answers) and all(messages[0]["content"] == prompt.system for messages in lines)


def _record(
    name: str, written: Written, record: ModelRecord | None, prompt: Prompt, config: Config, *, run_id: str
) -> ExportRecord:
    return ExportRecord(
        model=name,
        kind="merged",
        base_model=written.base,
        job_id=written.job_id,
        run_id=run_id,
        data=record.data if record else "",
        data_sha256=record.data_sha256 if record else "",
        training_sha256=written.training_sha256,
        prompt_fingerprint=prompt.fingerprint,
        labels=dict(config.data.labels),
    )


def _run_id(paths: ProjectPaths) -> str:
    try:
        return read_result(paths.model_run, FinetuneRun, if_missing="", if_damaged="").mlflow_run_id
    except DataError:
        return ""
