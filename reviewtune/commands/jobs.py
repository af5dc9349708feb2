"""The commands `reviewtune jobs ...`: fine-tuning jobs on the command line, for every provider."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reviewtune.core.formatting import counted
from reviewtune.errors import INTERRUPTED, ConfigError, JobError

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob

    from reviewtune.core.config.config import Config
    from reviewtune.core.config.provider import ProviderConfig

HELP = """Create, follow and stop fine-tuning jobs at any provider.

The provider is the one in params.yaml. --provider selects another one of conf/provider/, --set changes any setting,
such as --set provider.base_url=https://host/v1. With --json, standard output is JSON and nothing else.
"""

jobs = typer.Typer(no_args_is_help=True, help=HELP)

Job = Annotated[str, typer.Argument(help="the job's id, ftjob-...", metavar="JOB")]
MaybeJob = Annotated[str | None, typer.Argument(help="the job's id; default: the newest job", metavar="[JOB]")]
ProviderName = Annotated[str | None, typer.Option("--provider", help="local, openai, azure or compatible")]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, as in `dvc exp run -S`; can be repeated")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Limit = Annotated[int, typer.Option(min=1, help="how many, the newest ones")]


@jobs.command()
def create(
    training: Annotated[Path, typer.Argument(help="chat JSONL to learn from", metavar="TRAINING.jsonl")],
    validation: Annotated[Path | None, typer.Option(help="chat JSONL to measure the loss on")] = None,
    model: Annotated[str | None, typer.Option(help="the model to fine-tune; default: provider.base_model")] = None,
    suffix: Annotated[str | None, typer.Option(help="part of the fine-tuned model's name")] = None,
    n_epochs: Annotated[str | None, typer.Option(help="1 to 50, or auto")] = None,
    batch_size: Annotated[str | None, typer.Option(help="1 to 256, or auto")] = None,
    learning_rate_multiplier: Annotated[str | None, typer.Option(help="above 0, or auto")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the order of the examples")] = None,
    follow_it: Annotated[bool, typer.Option("--follow", help="then follow the job to its end")] = False,
    provider: ProviderName = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Check and upload the files, create the job once and print its id.

    Settings that are not given come from params.yaml (training, provider.base_model). The same command again finds the
    same job and costs nothing. The pipeline's files and settings give the pipeline's job.

    Example: reviewtune jobs create train.jsonl --validation valid.jsonl --follow
    """
    from reviewtune.commands import jobs_output
    from reviewtune.core.config.loading import changed
    from reviewtune.core.project import ProjectPaths, project_root
    from reviewtune.core.terminal.progress import TerminalProgress
    from reviewtune.data.chat.chat_files import as_utf8
    from reviewtune.finetuning.jobs import Order, place

    config = _config(provider, set_)
    numbers = {"n_epochs": n_epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate_multiplier}
    options = {name: _number(text) for name, text in numbers.items()} | {"suffix": suffix, "seed": seed}
    sections = {
        "provider": changed(config.provider, "--model", **_given(base_model=model)),
        "training": changed(config.training, "options", **_given(**options)),
    }
    _inform(_check_files(training, validation))
    copies = ProjectPaths(project_root()).work / "utf8"
    order = Order.for_files(
        config.model_copy(update=sections),
        training=as_utf8(training, copies),
        validation=as_utf8(validation, copies) if validation else None,
    )
    with _client(order.provider) as client:
        job, is_new = place(client, order, progress=TerminalProgress(sys.stderr))
        if not is_new:
            _inform(f"this job was created before and is {job.status}: nothing was created now")
        jobs_output.show_json(job) if as_json else print(job.id)
        if follow_it:
            _follow(client, job, as_json)
        else:
            _inform(f"follow it with: reviewtune jobs follow {job.id}")


@jobs.command("list")
def list_(limit: Limit = 20, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """List the newest jobs, newest first.

    Example: reviewtune jobs list --limit 5
    """
    from reviewtune.commands import jobs_output

    with _client(_config(provider, set_).provider) as client:
        newest = list(islice(client.fine_tuning.jobs.list(limit=min(limit, 100)), limit))
    jobs_output.show_json(newest) if as_json else jobs_output.show_jobs(newest)


@jobs.command()
def get(job: MaybeJob = None, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Show one job.

    Example: reviewtune jobs get ftjob-abc123 --json
    """
    from reviewtune.commands import jobs_output

    with _client(_config(provider, set_).provider) as client:
        details = _find(client, job)
    jobs_output.show_json(details) if as_json else jobs_output.show_job(details)


@jobs.command()
def follow(job: MaybeJob = None, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Show a job's progress until it has ended: steps, losses, accuracy, time left, advice on the loss curve.

    Ctrl-C stops the command, not the job; follow it again at any time. With --json: one event per line, then the job.
    Exit status 1 if the job failed or was cancelled.

    Example: reviewtune jobs follow ftjob-abc123
    """
    with _client(_config(provider, set_).provider) as client:
        _follow(client, _find(client, job), as_json)


@jobs.command()
def cancel(job: Job, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Stop a job for good. Its checkpoints so far are kept.

    Example: reviewtune jobs cancel ftjob-abc123
    """
    _change(job, provider, set_, as_json, lambda client: client.fine_tuning.jobs.cancel(job))


@jobs.command()
def pause(job: Job, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Stop a job for now; `resume` continues from its last checkpoint.

    Example: reviewtune jobs pause ftjob-abc123
    """
    _change(job, provider, set_, as_json, lambda client: client.fine_tuning.jobs.pause(job))


@jobs.command()
def resume(job: Job, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Continue a paused job.

    Example: reviewtune jobs resume ftjob-abc123
    """
    _change(job, provider, set_, as_json, lambda client: client.fine_tuning.jobs.resume(job))


@jobs.command()
def events(
    job: MaybeJob = None, limit: Limit = 20, provider: ProviderName = None, set_: Set = None, as_json: Json = False
) -> None:
    """List the events of a job, oldest first.

    Example: reviewtune jobs events ftjob-abc123 --limit 50
    """
    from reviewtune.commands import jobs_output

    with _client(_config(provider, set_).provider) as client:
        job_id = _find(client, job).id
        newest = list(islice(client.fine_tuning.jobs.list_events(job_id, limit=min(limit, 100)), limit))[::-1]
    jobs_output.show_json(newest) if as_json else jobs_output.show_events(newest)


@jobs.command()
def checkpoints(job: MaybeJob = None, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """List the models that a job saved at the end of its epochs; each can be used like the final one.

    Example: reviewtune jobs checkpoints ftjob-abc123
    """
    from reviewtune.commands import jobs_output

    with _client(_config(provider, set_).provider) as client:
        saved = list(client.fine_tuning.jobs.checkpoints.list(_find(client, job).id))[::-1]
    jobs_output.show_json(saved) if as_json else jobs_output.show_checkpoints(saved)


@jobs.command()
def curve(
    out: Annotated[Path, typer.Option(help="the PNG file to write; `-` is standard output")],
    job: MaybeJob = None,
    provider: ProviderName = None,
    set_: Set = None,
) -> None:
    """Draw a job's losses by step; the job may still be running.

    Example: reviewtune jobs curve ftjob-abc123 --out losses.png
    """
    from reviewtune.core.outputs import Output
    from reviewtune.finetuning.follow import JobMonitor, loss_table
    from reviewtune.finetuning.loss_plot import training_curve

    target = Output.checked(out)
    is_file = not target.is_stdout and (out.is_file() or not out.exists())
    if is_file and out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the picture is a PNG file; choose a name that ends in .png")
    with _client(_config(provider, set_).provider) as client:
        monitor = JobMonitor(_find(client, job))
        monitor.update(client)
        table = loss_table(client, monitor)
    chosen = int(table["step"].max()) if monitor.job.fine_tuned_model and len(table) else None
    target.write_bytes(training_curve(table, chosen, title=f"Loss by step, {monitor.job.id}"))
    _inform(f"{out}: {counted(len(table), 'step')} of {monitor.job.id}")


def _config(provider: str | None, overrides: list[str] | None) -> "Config":
    from reviewtune.core.config.loading import load_config

    return load_config([*([f"provider={provider}"] if provider else []), *(overrides or [])])


@contextmanager
def _client(provider: "ProviderConfig") -> Iterator["openai.OpenAI"]:
    """A client whose 404 errors are about the job's id, and not about the base model as they are elsewhere."""
    import openai

    from reviewtune.core.terminal.progress import TerminalProgress
    from reviewtune.providers.client import connect
    from reviewtune.providers.responses.provider_errors import lacks

    with connect(provider, progress=TerminalProgress(sys.stderr)) as client:
        try:
            yield client
        except openai.NotFoundError as error:
            if lacks(error, "/fine_tuning/jobs", "/files"):
                raise
            hint = "`reviewtune jobs list` shows the existing jobs"
            raise JobError(f"provider {provider.kind}: HTTP 404: {error.message}; {hint}") from error


def _find(client: "openai.OpenAI", job_id: str | None) -> "FineTuningJob":
    """The job, by default the newest.

    Raises:
        JobError: there is no job.
    """
    if job_id is not None:
        return client.fine_tuning.jobs.retrieve(job_id)
    newest = client.fine_tuning.jobs.list(limit=1).data
    if not newest:
        raise JobError("the provider has no job yet; `reviewtune jobs create --help` shows how to create one")
    return newest[0]


def _follow(client: "openai.OpenAI", job: "FineTuningJob", as_json: bool) -> None:
    from reviewtune.commands import jobs_output

    try:
        ended = jobs_output.stream(client, job) if as_json else jobs_output.watch(client, job)
    except KeyboardInterrupt:
        _inform(f"\nthe job continues; follow it again with: reviewtune jobs follow {job.id}")
        raise typer.Exit(INTERRUPTED) from None
    if ended.status != "succeeded":
        reason = f": {ended.error.message} ({ended.error.code})" if ended.error and ended.error.message else ""
        raise JobError(f"fine-tuning job {ended.id} ended as {ended.status}{reason}")


def _change(
    job: str, provider: str | None, set_: list[str] | None, as_json: bool, call: "Callable[[Any], FineTuningJob]"
) -> None:
    from reviewtune.commands import jobs_output

    with _client(_config(provider, set_).provider) as client:
        changed = call(client)
    jobs_output.show_json(changed) if as_json else print(f"{job}: {changed.status}")


def _check_files(training_file: Path, validation_file: Path | None) -> str:
    """Check the files before anything is sent; returns what they hold.

    Raises:
        DataError: a line that no provider would accept.
    """
    from reviewtune.data.chat.chat_files import check

    training = check(training_file, None)
    validation = check(validation_file, None, least=1) if validation_file else None
    text = f"{counted(training.examples, 'example')}, {counted(training.tokens, 'token')} per epoch"
    return text + (f", {validation.examples} for validation" if validation else ", none for validation")


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _number(text: str | None) -> int | float | str | None:
    """The number that a text holds; any other text is returned, for the check of the settings to refuse."""
    if text is None:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _inform(text: str) -> None:
    """Print for people; standard output is for programs."""
    print(text, file=sys.stderr)
