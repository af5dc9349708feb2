"""The command line of the local provider: python -m reviewtune.local_server."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from reviewtune.core.user_dirs import account_folder, cache_folder
from reviewtune.errors import one_line_errors
from reviewtune.local_server.engine.base_models.catalogue import CATALOGUE
from reviewtune.local_server.logs import LogFormat
from reviewtune.local_server.settings import Settings, importing, prepare_torch


def check_aliases(entries: list[str] | None) -> list[str] | None:
    """Refuse what is not NAME=MODEL, and names that are there already."""
    names: set[str] = set()
    for entry in entries or ():
        name, _, model = entry.partition("=")
        if not name or not model:
            raise typer.BadParameter(f"{entry!r} is not NAME=MODEL, such as gpt-4o-mini=smollm2-135m-instruct")
        if name in CATALOGUE or name in names:
            raise typer.BadParameter(f"there is another model with the name {name!r}; choose another alias")
        names.add(name)
    return entries


def start(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Addresses other than loopback need an API key.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port to listen on. 0 picks a free one, which is written to server.json."),
    ] = 8000,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the account: files, jobs, models. Default: the user's data folder.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="REVIEWTUNE_API_KEY", show_envvar=True, help="Key that clients must send. Default: none."),
    ] = None,
    base_model: Annotated[
        list[str] | None,
        typer.Option(help="An additional base model: a Hugging Face name or a folder. Can be repeated."),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="Another name for a base model or a fine-tune, which must be there. Can be repeated.",
            callback=check_aliases,
        ),
    ] = None,
    max_waiting: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of chats that may wait for an answer. More are refused with status 429 (try again later).",
        ),
    ] = 1000,
    log_format: Annotated[LogFormat, typer.Option(help="text: lines for people. json: one JSON object per line.")] = (
        LogFormat.TEXT
    ),
    log_file: Annotated[
        Path | None,
        typer.Option(
            help="Log to this file. At 5 MB it is renamed to FILE.1 and a new one begins. Default: the terminal."
        ),
    ] = None,
    log_contents: Annotated[
        bool,
        typer.Option("--log-contents", help="Also log the messages and answers of chats. They may contain reviews."),
    ] = False,
    idle_exit: Annotated[
        float | None, typer.Option(min=0, help="Shut down after this many seconds without a request, a job or a batch.")
    ] = None,
) -> None:
    """Serve OpenAI's files, fine-tuning jobs, models, chats, completions, responses and batches from this machine.

    Point any OpenAI client at it:

        OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=local python my_program.py

    The account is one folder (--data-dir, by default below REVIEWTUNE_HOME). Only one server can use it at a time;
    server.json in it holds the server's address. Stop the server with Ctrl-C or SIGTERM: a running job continues at the
    next start.
    """
    settings = Settings(
        data_dir=(data_dir or account_folder()).expanduser().resolve(),
        cache_dir=cache_folder().expanduser().resolve(),
        host=host,
        port=port,
        api_key=(api_key or "").strip() or None,  # a key that was read from a file may end with a line break
        base_models=tuple(base_model or ()),
        aliases=dict(entry.split("=", 1) for entry in alias or ()),
        max_waiting=max_waiting,
        log_format=log_format,
        log_file=log_file,
        log_contents=log_contents,
        idle_exit=idle_exit,
    )
    prepare_torch()
    gc.set_threshold(100_000)  # torch leaves a million long-lived objects; collecting garbage among them takes 0.5 s
    with one_line_errors():
        with importing("fastapi"):
            from reviewtune.local_server.server import serve  # slow to import, and not needed for --help

        serve(settings)


def main() -> None:
    typer.run(start)


if __name__ == "__main__":
    main()
