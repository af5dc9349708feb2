"""What `python` is for dvc and for the session's server: warm_server.py runs stages and trainings, Python all else.

Usage: warm_python.py SOCKET WORDS... It imports little, because it starts for each stage.
"""

import os
import signal
import sys

TRAINER = ["-m", "reviewtune.local_server.fine_tuning.trainer"]


def main() -> None:
    address, *words = sys.argv[1:]
    if not (words and words[0].startswith("stages/")) and words[:2] != TRAINER:
        os.execv(sys.executable, [sys.executable, *words])
    status = run(address, words, os.getcwd(), dict(os.environ), (0, 1, 2))  # noqa: PTH109 - pathlib is slow to import
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def run(address: str, words: list[str], folder: str, environment: dict[str, str], files: tuple[int, int, int]) -> int:
    """Exit status; negative: the signal that ended the command."""
    import json
    import socket

    request = json.dumps({"words": words, "folder": folder, "environment": environment})
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(address)
        socket.send_fds(connection, [request.encode()], list(files))
        if __name__ == "__main__":
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda number, _: connection.send(str(number).encode()))
        return int(connection.recv(100))


if __name__ == "__main__":
    main()
