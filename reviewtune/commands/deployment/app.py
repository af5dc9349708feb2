"""Commands about the model in use: `promote`, `champion`, `rollback`, `rebase`, `serve-app`, `export`, `lifecycle`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def promote(
    run_id: Annotated[
        str | None,
        typer.Argument(help="an evaluation in MLflow, or its id's first digits; default: the last `dvc repro`"),
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="another arm of the last `dvc repro` instead of the fine-tune, such as linear")
    ] = None,
    with_weights: Annotated[
        bool, typer.Option("--with-weights", help="store the local model's adapter, so that other machines can answer")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="promote although gates fail or after a rollback; needs --reason")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="why; kept in the history of the champion")] = None,
    check: Annotated[bool, typer.Option("--check", help="only examine the gates, promote nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the gates as JSON")] = False,
) -> None:
    """Make a model the champion, which applications use, if it passes all gates.

    It is compared with the champion on the frozen test split: accuracy not worse by more than promotion.margin, no
    label significantly worse. There are limits on unusable answers, hostile reviews, latency, cost and calibration. Its
    training data and code must be known. Without a champion it must beat evaluation.reference. The gates are printed,
    written to reports/gates.json and noted on the MLflow run. If one fails, nothing is promoted: exit status 1.

    Examples: reviewtune promote; reviewtune promote --arm linear; reviewtune promote 3f2a91 --force --reason "urgent"
    """
    from reviewtune.commands.deployment import promote as command
    from reviewtune.deployment.promotion import PromoteOptions

    options = PromoteOptions(
        run_id=run_id, arm=arm, force=force, reason=reason, with_weights=with_weights, only_gates=check
    )
    command.promote(options, as_json=as_json)


@app.command()
def champion(
    out: Annotated[
        Path | None, typer.Option(help="copy its files into this folder, for a machine without MLflow")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="also list all promotions and rollbacks")] = False,
) -> None:
    """Print which model is champion, since when and why, and where it comes from.

    Examples: reviewtune champion --history; reviewtune champion --out champion/
    """
    from reviewtune.commands.deployment import promote as command

    command.show_champion(out=out, history=history)


@app.command()
def rollback(
    reason: Annotated[str | None, typer.Option(help="why; kept in the history of the champion")] = None,
    version: Annotated[
        int | None, typer.Option("--from", help="only if this version is champion; for scripts that may run twice")
    ] = None,
) -> None:
    """Make the previous champion the champion again, in a second. Nothing is asked and nothing is deleted.

    The champion becomes the previous one, so a second rollback goes forward again.

    Example: reviewtune rollback --reason "refunds are taken for praise"
    """
    from reviewtune.commands.deployment import promote as command

    command.roll_back(reason, version=version)


@app.command()
def rebase(
    provider: Annotated[str, typer.Option(help="the new provider: a file of conf/provider, such as local")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="settings of the new model, such as provider.base_model=NAME or training.n_epochs=2"),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="the old model, which is asked about the reviews of --reviews while it answers")
    ] = None,
    reviews: Annotated[
        Path | None, typer.Option(help="CSV or .xlsx with reviews without a label, for --teacher")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="its column with the reviews")] = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(
            help="cap on all answers of the old model, in USD; default: evaluation.budget_usd",
            min=0,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
) -> None:
    """Train the champion's data on another provider, and print whether the new model is as good.

    The old model is the champion, else the fine-tune of the last `dvc repro`. Both answer the frozen test reviews. The
    report has accuracies with intervals, the paired test, how often both agree, every label, cost, speed and
    confidence, and the gates of `promote`. It is written to reports/rebase/ and to the MLflow run of the new model's
    evaluation, which `reviewtune promote` takes. Nothing is promoted here. The exit status is 1 if a gate failed. The
    same command continues after any end: no job is created twice, and no answer is paid for twice.

    With few labels, --teacher MODEL --reviews FILE asks the old model about reviews without a label, in batches where
    its provider has them. Its answers are kept in data/teacher/ and are training data too, in proportion to its
    confidence. Without any labelled review the two models are compared on held-out answers only: how often they agree,
    not who is right. Then nothing is judged, and the exit status is 3.

    Examples: reviewtune rebase --provider local; reviewtune rebase --provider compatible
    provider.base_url=URL provider.base_model=NAME
    """
    from reviewtune.commands.deployment import rebase as command

    options = command.options_of(
        provider=provider,
        overrides=tuple(overrides or ()),
        teacher=teacher,
        reviews=reviews,
        text_column=text_column,
        budget_usd=budget_usd,
    )
    command.rebase(options, as_json=as_json)


@app.command()
def lifecycle(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List the models that this project depends on, what needs them, and when they end.

    Listed are the base models of params.yaml, the last fine-tune, the champion and the one before, and the fine-tunes
    of stored runs. Dates come from conf/lifecycle, with their sources, and from the providers (GET /v1/models). What
    cannot be reached is named, and the rest is listed. The exit status is for scheduled jobs: 3 if something ends
    within lifecycle.warn_days (90) or has ended; 1 if the last fine-tune, the champion or the stored runs could not be
    looked up, so that an end may be missing; otherwise 0.

    Examples: reviewtune lifecycle; reviewtune lifecycle --json
    """
    from reviewtune.commands.deployment import lifecycle as command

    command.show(as_json=as_json)


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="folder to write; it must not exist or be empty")],
    model: Annotated[
        str | None,
        typer.Argument(help="a fine-tune, checkpoint or base model; default: that of the last `dvc repro`"),
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="only the low-rank adapter, which needs its base model to run")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier export in that folder")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="the account's folder, as of `provider serve`; default: your own")
    ] = None,
) -> None:
    """Write a model of the local provider as a folder that transformers and other programs open.

    The folder holds the weights in bf16 (the adapter merged into its base model), tokenizer, chat template, license and
    a README.md: the exact prompt, a full request, the labels, where the model comes from, and how to serve it. The
    prompt and the labels are those of params.yaml, which must be what the model was trained with. The account is only
    read, whether its server runs or not. The folder appears complete or not at all. Hosted models cannot be exported.

    Examples: reviewtune export --out ../issues; reviewtune export ft:gemma-3-270m:local:... --adapter --out ../adapter
    """
    from reviewtune.commands.deployment import export as command
    from reviewtune.deployment.export import ExportOptions

    command.export(ExportOptions(model=model, out=out, adapter=adapter, force=force, data_dir=data_dir))


@app.command()
def serve_app(
    host: Annotated[str, typer.Option(help="address to listen on; one for other machines needs a key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 picks a free port", min=0, max=65535)] = 8080,
    api_key_env: Annotated[
        str | None, typer.Option(help="variable with the key that clients must send; default: REVIEWTUNE_APP_KEY")
    ] = None,
    allow_no_key: Annotated[
        bool, typer.Option("--allow-no-key", help="serve other machines without a key, behind a gateway that asks")
    ] = False,
    served_model: Annotated[
        Path | None, typer.Option(help="folder of `champion --out`; default: the champion, else the last `dvc repro`")
    ] = None,
    refresh: Annotated[float, typer.Option(help="seconds between two looks for another champion", min=0.1)] = 30.0,
    max_queue: Annotated[int, typer.Option(help="reviews that may be without an answer at a time", min=1)] = 256,
    max_batch: Annotated[int, typer.Option(help="reviews in one request", min=1)] = 64,
    timeout: Annotated[float, typer.Option(help="seconds until a request fails with status 504", min=0.1)] = 30.0,
    record: Annotated[
        Path | None, typer.Option(help="folder in which reviews and labels are kept; default: no review is kept")
    ] = None,
    record_days: Annotated[int, typer.Option(help="days of the recording that are kept", min=1)] = 30,
    record_mb: Annotated[int, typer.Option(help="size of the recording in MB, at most", min=1)] = 1_000,
) -> None:
    """Serve the analyzer over HTTP until Ctrl-C or SIGTERM: POST /classify, /healthz, /readyz, /metrics.

    Logs are JSON lines on standard error; they hold no review. A new champion answers within about twice --refresh
    seconds and the time to open it, without a restart. What --record keeps is read by `reviewtune monitor` and
    `reviewtune queue`. `docs/deploy.md` describes requests, metrics, containers and gateways.

    Example: reviewtune serve-app --port 8080
    """
    from reviewtune.commands.deployment import serve_app as command

    options = command.ServeOptions(
        host=host,
        port=port,
        api_key_env=api_key_env,
        allow_no_key=allow_no_key,
        served_model=served_model,
        refresh=refresh,
        max_queue=max_queue,
        max_batch=max_batch,
        timeout=timeout,
        record=record,
        record_days=record_days,
        record_mb=record_mb,
    )
    command.serve_app(options)
