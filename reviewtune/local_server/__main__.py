"""python -m reviewtune.local_server: OpenAI's fine-tuning protocol over a small language model on this machine."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from reviewtune.core.user_dirs import account_folder, cache_folder
from reviewtune.errors import one_line_errors
from reviewtune.local_server.logs import LogFormat
from reviewtune.local_server.settings import Settings, share_the_cores


def start(
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one; server.json says which.")] = 8000,
    data_dir: Annotated[
        Path | None, typer.Option(help="The account: files, jobs, models. Default: the user's data folder.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="REVIEWTUNE_API_KEY", show_envvar=True, help="Key that clients must send. Default: none."),
    ] = None,
    base_model: Annotated[
        list[str] | None, typer.Option(help="One more base model: a Hugging Face name or a folder. May be repeated.")
    ] = None,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Chats that may wait for an answer; more are told (429) to come again later.")
    ] = 1000,
    log_format: Annotated[LogFormat, typer.Option(help="Lines for people, or one JSON object a line.")] = (
        LogFormat.TEXT
    ),
    log_file: Annotated[
        Path | None,
        typer.Option(help="Log into this file, of 5 MB at most, and one before. Default: the terminal."),
    ] = None,
    log_contents: Annotated[
        bool, typer.Option("--log-contents", help="Log the messages and answers of chats, too. They may hold reviews.")
    ] = False,
    idle_exit: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds without a request, a job or a batch.")
    ] = None,
) -> None:
    """Serve OpenAI's files, fine-tuning jobs, models, chat completions and batches from this machine.

    Point any OpenAI client at it:

        OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=local python my_program.py

    The account is kept in one folder (--data-dir, else below REVIEWTUNE_HOME), and one server serves it at a time;
    server.json there says where. End the server with Ctrl-C or SIGTERM: a running job goes on at the next start.
    """
    settings = Settings(
        data_dir=(data_dir or account_folder()).expanduser().resolve(),
        cache_dir=cache_folder().expanduser().resolve(),
        host=host,
        port=port,
        api_key=api_key or None,
        base_models=tuple(base_model or ()),
        max_waiting=max_waiting,
        log_format=log_format,
        log_file=log_file,
        log_contents=log_contents,
        idle_exit=idle_exit,
    )
    share_the_cores()
    gc.set_threshold(100_000)  # a million objects come with torch and stay: to look for garbage among them takes 0.5 s
    with one_line_errors():
        from reviewtune.local_server.server import serve  # after --help and its faults, which need none of it

        serve(settings)


def main() -> None:
    typer.run(start)


if __name__ == "__main__":
    main()
