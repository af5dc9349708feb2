"""What is true for every command of `reviewtune`."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from reviewtune.commands.main import app, main
from reviewtune.errors import INTERRUPTED


def test_ctrl_c_reports_how_to_continue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reviewtune.commands.cache.show_stats", interrupted)
    monkeypatch.setattr(sys, "argv", ["reviewtune", "cache", "stats"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == INTERRUPTED
    assert capsys.readouterr().err == "interrupted: run the same command again to continue\n"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "reviewtune", *arguments], capture_output=True, text=True)


def test_the_module_is_the_command_and_knows_its_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"reviewtune {version('reviewtune')}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", ["--version", "--help", "cache stats"])
def test_a_full_disk_ends_a_command_in_one_line(arguments: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "reviewtune", *arguments.split()]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: No space left on device: free some space")
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", ["--version", "--help", "cache stats"])
def test_a_closed_pipe_ends_a_command_without_a_message(arguments: str) -> None:
    command = [sys.executable, "-m", "reviewtune", *arguments.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


def paths(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group of commands, as it is typed."""
    below = getattr(command, "commands", {})
    return [path, *(found for name, each in below.items() for found in paths(each, (*path, name)))]


def has_commands(shown: str) -> bool:
    return "COMMAND [ARGS]" in shown


ALL = paths(typer.main.get_command(app))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_both_options_show_the_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for option in ("-h", "--help"):
        with pytest.raises(SystemExit) as ended:
            app([*path, option], prog_name="reviewtune")
        assert ended.value.code == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert f"Usage: {' '.join(['reviewtune', *path])}" in shown[0]
    assert f"Example: {' '.join(['reviewtune', *path])}" in shown[0].replace("Examples:", "Example:") or has_commands(
        shown[0]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("complare", "error: No such command 'complare'. Did you mean 'compare'?; see `reviewtune --help`"),
        ("jobs cancl", "error: No such command 'cancl'. Did you mean 'cancel'?; see `reviewtune jobs --help`"),
        ("compare --wrong", "error: No such option: --wrong; see `reviewtune compare --help`"),
        ("classify", "error: Missing argument 'file'; see `reviewtune classify --help`"),
        ("ui --port many", "error: Invalid value for '--port': "),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app(arguments.split(), prog_name="reviewtune")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app([], prog_name="reviewtune")
    shown = capsys.readouterr()
    assert "Usage: reviewtune" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    environment = {**os.environ, "_REVIEWTUNE_COMPLETE": f"source_{shell}"}
    done = subprocess.run([sys.executable, "-m", "reviewtune"], env=environment, capture_output=True, text=True)
    assert "reviewtune" in done.stdout
    assert done.stderr == ""


def test_help_fills_the_lines_of_a_terminal() -> None:
    """The line breaks of a docstring are for 120 columns; `--help` has its own."""
    group = typer.main.get_command(app)
    for words in sorted(commands_of(group)):
        help_text = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
        prose = [line.strip() for line in help_text.partition("╭")[0].splitlines()]
        for line, after in itertools.pairwise(prose):
            first = after.partition(" ")[0]
            assert not (line and after) or len(f"{line} {first}") > 78, f"{words}: {line!r} has room for {first!r}"


def commands_of(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of every command below a group."""
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name)
        yield from commands_of(command, *path, name)
