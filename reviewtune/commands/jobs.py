"""Fine-tuning jobs on the command line: what `openai api fine_tuning.jobs.*` used to be, for every provider."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reviewtune.errors import INTERRUPTED, ConfigError, JobError

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob

    from reviewtune.core.config import Config, ProviderConfig, TrainingConfig
    from reviewtune.finetuning.jobs import Order

HELP = """Fine-tuning jobs at any provider: create, follow, stop them.

The provider is the one of params.yaml. --provider takes another one of conf/provider/, --set any other value, such as
--set provider.base_url=https://host/v1. With --json, standard output is JSON and nothing else.
"""

jobs = typer.Typer(no_args_is_help=True, help=HELP)

Job = Annotated[str, typer.Argument(help="the job's id, ftjob-...", metavar="JOB")]
MaybeJob = Annotated[str | None, typer.Argument(help="the job's id; default: the newest job", metavar="[JOB]")]
ProviderName = Annotated[str | None, typer.Option("--provider", help="local, openai, azure or compatible")]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE as in `dvc exp run -S`; may be repeated")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Limit = Annotated[int, typer.Option(min=1, help="the newest so many")]


@jobs.command()
def create(
    training: Annotated[Path, typer.Argument(help="chat JSONL to learn from", metavar="TRAINING.jsonl")],
    validation: Annotated[Path | None, typer.Option(help="chat JSONL to measure the loss on")] = None,
    model: Annotated[str | None, typer.Option(help="the model to start from; default: provider.base_model")] = None,
    suffix: Annotated[str | None, typer.Option(help="stands in the fine-tuned model's name")] = None,
    n_epochs: Annotated[str | None, typer.Option(help="1 to 50, or auto")] = None,
    batch_size: Annotated[str | None, typer.Option(help="1 to 256, or auto")] = None,
    learning_rate_multiplier: Annotated[str | None, typer.Option(help="above 0, or auto")] = None,
    seed: Annotated[int | None, typer.Option(help="of the order of the examples")] = None,
    follow_it: Annotated[bool, typer.Option("--follow", help="then follow it to its end")] = False,
    provider: ProviderName = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Check the files, upload them, create the job once and print its id.

    What is not said comes from params.yaml (training, provider.base_model). The same command again finds the same job
    and pays nothing; with the pipeline's files and settings it is the pipeline's job.
    """
    from reviewtune.commands import jobs_output
    from reviewtune.core.config_loading import changed
    from reviewtune.finetuning.jobs import place

    config = _config(provider, set_)
    asked = {"n_epochs": n_epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate_multiplier}
    values = {name: _number(text) for name, text in asked.items()} | {"suffix": suffix, "seed": seed}
    order = _order(
        config,
        training,
        validation,
        provider=changed(config.provider, "--model", **_given(base_model=model)),
        settings=changed(config.training, "options", **_given(**values)),
    )
    _tell(_check_files(order))
    with _asking(order.provider) as client:
        with redirect_stdout(sys.stderr):  # what it says of the cost
            job, is_new = place(client, order)
        if not is_new:
            _tell(f"this order was created before and is {job.status}: nothing was created now")
        jobs_output.show_json(job) if as_json else print(job.id)
        if follow_it:
            _follow(client, job, as_json)
        else:
            _tell(f"follow it with: reviewtune jobs follow {job.id}")


@jobs.command("list")
def list_(limit: Limit = 20, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """The newest jobs, newest first."""
    from reviewtune.commands import jobs_output

    with _asking(_config(provider, set_).provider) as client:
        found = list(islice(client.fine_tuning.jobs.list(limit=min(limit, 100)), limit))
    jobs_output.show_json(found) if as_json else jobs_output.show_jobs(found)


@jobs.command()
def get(job: MaybeJob = None, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """All about one job."""
    from reviewtune.commands import jobs_output

    with _asking(_config(provider, set_).provider) as client:
        found = _find(client, job)
    jobs_output.show_json(found) if as_json else jobs_output.show_job(found)


@jobs.command()
def follow(job: MaybeJob = None, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Watch a job to its end: steps, losses, accuracy, time left, and what the curve says.

    Ctrl-C ends the watching, not the job; follow it again at any time. With --json: one event a line, then the job.
    Exit status 1 if the job failed or was cancelled.
    """
    with _asking(_config(provider, set_).provider) as client:
        _follow(client, _find(client, job), as_json)


@jobs.command()
def cancel(job: Job, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Stop a job for good. Checkpoints made by then stay."""
    _change(job, provider, set_, as_json, lambda client: client.fine_tuning.jobs.cancel(job))


@jobs.command()
def pause(job: Job, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Stop a job for now; `resume` goes on from its last checkpoint."""
    _change(job, provider, set_, as_json, lambda client: client.fine_tuning.jobs.pause(job))


@jobs.command()
def resume(job: Job, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """Go on with a paused job."""
    _change(job, provider, set_, as_json, lambda client: client.fine_tuning.jobs.resume(job))


@jobs.command()
def events(
    job: MaybeJob = None, limit: Limit = 20, provider: ProviderName = None, set_: Set = None, as_json: Json = False
) -> None:
    """What happened to a job, oldest first."""
    from reviewtune.commands import jobs_output

    with _asking(_config(provider, set_).provider) as client:
        job_id = _find(client, job).id
        found = list(islice(client.fine_tuning.jobs.list_events(job_id, limit=min(limit, 100)), limit))[::-1]
    jobs_output.show_json(found) if as_json else jobs_output.show_events(found)


@jobs.command()
def checkpoints(job: MaybeJob = None, provider: ProviderName = None, set_: Set = None, as_json: Json = False) -> None:
    """The models that a job left at its epochs' ends; each can be asked like the finished one."""
    from reviewtune.commands import jobs_output

    with _asking(_config(provider, set_).provider) as client:
        found = list(client.fine_tuning.jobs.checkpoints.list(_find(client, job).id))[::-1]
    jobs_output.show_json(found) if as_json else jobs_output.show_checkpoints(found)


@jobs.command()
def curve(
    out: Annotated[Path, typer.Option(help="the picture to write, .png")],
    job: MaybeJob = None,
    provider: ProviderName = None,
    set_: Set = None,
) -> None:
    """Draw a job's losses by step, also of one that still runs."""
    from reviewtune.finetuning.follow import Following, loss_table
    from reviewtune.finetuning.loss_plot import training_curve

    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the picture is a PNG; name a file that ends in .png")
    with _asking(_config(provider, set_).provider) as client:
        following = Following(_find(client, job))
        following.look(client)
        table = loss_table(client, following)
    chosen = int(table["step"].max()) if following.job.fine_tuned_model and len(table) else None
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(training_curve(table, chosen, title=f"Loss by step, {following.job.id}"))
    _tell(f"{out}: {len(table)} steps of {following.job.id}")


def _config(provider: str | None, overrides: list[str] | None) -> "Config":
    from reviewtune.core.config_loading import load_config

    return load_config([*([f"provider={provider}"] if provider else []), *(overrides or [])])


@contextmanager
def _asking(provider: "ProviderConfig") -> Iterator["openai.OpenAI"]:
    """A client; an id that the provider doesn't know is an error of its own, as no base model is to blame."""
    import openai

    from reviewtune.providers.client import connect

    with connect(provider) as client:
        try:
            yield client
        except openai.NotFoundError as error:
            hint = "`reviewtune jobs list` shows the jobs that there are"
            raise JobError(f"provider {provider.kind}: HTTP 404: {error.message}; {hint}") from error


def _find(client: "openai.OpenAI", job_id: str | None) -> "FineTuningJob":
    """The job, or the newest. Raises: JobError: there is none."""
    if job_id is not None:
        return client.fine_tuning.jobs.retrieve(job_id)
    newest = client.fine_tuning.jobs.list(limit=1).data
    if not newest:
        raise JobError("the provider has no job yet; `reviewtune jobs create --help` tells how to make one")
    return newest[0]


def _follow(client: "openai.OpenAI", job: "FineTuningJob", as_json: bool) -> None:
    from reviewtune.commands import jobs_output

    try:
        ended = jobs_output.stream(client, job) if as_json else jobs_output.watch(client, job)
    except KeyboardInterrupt:
        _tell(f"\nthe job goes on; follow it again with: reviewtune jobs follow {job.id}")
        raise typer.Exit(INTERRUPTED) from None
    if ended.status != "succeeded":
        reason = f": {ended.error.message} ({ended.error.code})" if ended.error and ended.error.message else ""
        raise JobError(f"fine-tuning job {ended.id} ended as {ended.status}{reason}")


def _change(
    job: str, provider: str | None, set_: list[str] | None, as_json: bool, call: "Callable[[Any], FineTuningJob]"
) -> None:
    from reviewtune.commands import jobs_output

    with _asking(_config(provider, set_).provider) as client:
        changed = call(client)
    jobs_output.show_json(changed) if as_json else print(f"{job}: {changed.status}")


def _order(
    config: "Config", training: Path, validation: Path | None, *, provider: "ProviderConfig", settings: "TrainingConfig"
) -> "Order":
    """What is to be trained; refused before it is created where it may cost more than evaluation.budget_usd."""
    from reviewtune.finetuning.cost import allow_training
    from reviewtune.finetuning.jobs import Order

    prices = (config.prices, config.evaluation.budget_usd)
    return Order(
        training, validation, provider, settings, partial(allow_training, training, provider, settings, *prices)
    )


def _check_files(order: "Order") -> str:
    """Raises: DataError: a line that no provider would take, before anything is sent."""
    from reviewtune.data.chat_files import check

    training = check(order.training_file, None)
    validation = check(order.validation_file, None, least=1) if order.validation_file else None
    text = f"{training.examples} examples, {training.tokens} tokens an epoch"
    return text + (f", {validation.examples} to validate with" if validation else ", none to validate with")


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _number(text: str | None) -> int | float | str | None:
    """As a number where it is one; what isn't is for the check to refuse."""
    if text is None:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _tell(text: str) -> None:
    """For people; standard output is for programs."""
    print(text, file=sys.stderr)
