"""Files: every route, the limits, and memory use that does not depend on the size of an upload."""

import io
import re
import socket
import sqlite3
import time
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import psutil
import pytest
from openai.types import FileDeleted, FileObject

from tests.support.serving import ServerProcess, example, jsonl, upload
from tests.support.wire import checked, error_of, listed

MONTH = 30 * 24 * 3600


def test_a_file_is_uploaded_read_and_deleted(client: openai.OpenAI) -> None:
    lines = [example(index) for index in range(3)]
    raw = client.files.with_raw_response.create(file=("train.jsonl", jsonl(lines)), purpose="fine-tune")
    file = checked(FileObject, raw.text)
    assert re.fullmatch(r"file-[0-9a-zA-Z]+", file.id)
    assert abs(file.created_at - time.time()) < 3600
    assert (file.object, file.expires_at, file.status_details) == ("file", None, None)
    assert (file.filename, file.purpose, file.status) == ("train.jsonl", "fine-tune", "processed")
    assert file.bytes == len(jsonl(lines))
    assert client.files.wait_for_processing(file.id) == client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == jsonl(lines)

    raw_deleted = client.files.with_raw_response.delete(file.id)
    deleted = checked(FileDeleted, raw_deleted.text)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
    with pytest.raises(openai.NotFoundError, match="No such File object") as caught:
        client.files.content(file.id)
    assert (caught.value.param, caught.value.code) == ("id", None)
    for call in (client.files.retrieve, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}"):
            call(file.id)


def test_lists_by_page_order_and_purpose(client: openai.OpenAI) -> None:
    file_ids = [upload(client, [{"n": n}], purpose="user_data", name=f"{n}.json").id for n in range(5)]
    newest_first = [file.id for file in client.files.list(purpose="user_data", limit=2)]
    assert newest_first[:5] == file_ids[::-1]
    page = client.files.list(purpose="user_data", order="asc", limit=3)
    assert [file.id for file in page.data] == file_ids[:3]
    assert page.has_more
    following = client.files.list(purpose="user_data", order="asc", limit=3, after=page.data[-1].id)
    assert [file.id for file in following.data] == file_ids[3:]
    assert not following.has_more
    raw: Any = client.files.with_raw_response.list(purpose="user_data", limit=2).http_response.json()
    assert [file.id for file in listed(FileObject, raw, ends=True)] == file_ids[:2:-1]


@pytest.mark.parametrize(
    ("purpose", "lifetime"),
    [
        ("assistants", None),
        ("batch", MONTH),
        ("fine-tune", None),
        ("vision", None),
        ("user_data", None),
        ("evals", None),
    ],
)
def test_purposes(client: openai.OpenAI, purpose: Any, lifetime: int | None) -> None:
    """A batch's input expires after 30 days, other files never."""
    file = upload(client, [example(0)], purpose=purpose)
    assert (file.purpose, file.expires_at) == (purpose, lifetime and file.created_at + lifetime)
    assert file.id in {listed_file.id for listed_file in client.files.list(purpose=purpose)}
    client.files.delete(file.id)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"purpose": "batch_output"}, "purpose", "invalid_value"),
        ({"purpose": "fine-tune-results"}, "purpose", "invalid_value"),
        ({}, "purpose", "missing_required_parameter"),
        ({"purpose": "user_data", "colour": "red"}, "colour", "unknown_parameter"),
        ({"purpose": ["user_data", "vision"]}, "purpose", "invalid_value"),
        ({"expires_after[seconds]": "3600"}, "expires_after", "invalid_value"),
        ({"expires_after[anchor]": "now"}, "expires_after[anchor]", "invalid_value"),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"},
            "expires_after[seconds]",
            "integer_below_min_value",
        ),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"},
            "expires_after[seconds]",
            "integer_above_max_value",
        ),
    ],
)
def test_fields_refused(server: ServerProcess, fields: dict[str, Any], param: str, code: str) -> None:
    if param.startswith("expires"):
        fields = {"purpose": "user_data"} | fields
    answer = httpx2.post(f"{server.base_url}/files", files={"file": ("a.txt", b"x")}, data=fields)
    error = error_of(answer, 400)
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=b"])
def test_bodies_that_are_not_forms(server: ServerProcess, kind: str) -> None:
    error_of(httpx2.post(f"{server.base_url}/files", content=b"--x", headers={"content-type": kind}), 400)
    bare = httpx2.post(f"{server.base_url}/files", data={"purpose": "batch", "file": "text"})
    assert error_of(bare, 400)["param"] == "file"


def test_a_thousand_uploads_a_minute(client: openai.OpenAI, server: ServerProcess) -> None:
    """More are refused until later, as at OpenAI; to save time, the uploads are inserted into the account's table."""
    columns = "id, created_at, bytes, sha256, filename, purpose"
    with sqlite3.connect(server.data_dir / "account.db", timeout=30) as table:
        rows = [(f"file-crowd{n}", int(time.time()), 1, "", "x", "user_data") for n in range(1000)]
        table.executemany(f"insert into files ({columns}) values (?, ?, ?, ?, ?, ?)", rows)
    try:
        with pytest.raises(openai.RateLimitError) as caught:
            upload(client, [example(0)])
        assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
        assert int(caught.value.response.headers["retry-after"]) >= 1
    finally:
        with sqlite3.connect(server.data_dir / "account.db", timeout=30) as table:
            table.execute("delete from files where id like 'file-crowd%'")
    table.close()


def test_expiry_is_recorded(client: openai.OpenAI) -> None:
    file = client.files.create(
        file=("x.txt", b"x"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    client.files.delete(file.id)


def test_hostile_names_are_only_names(client: openai.OpenAI, server: ServerProcess) -> None:
    file = client.files.create(file=("../../evil.jsonl", jsonl([example(0)])), purpose="fine-tune")
    assert file.filename == "evil.jsonl"
    assert not list(server.data_dir.parent.rglob("evil.jsonl"))
    for name in ("..%2Faccount.db", "%2e%2e", "file-0"):
        with pytest.raises(openai.NotFoundError):
            client.get(f"/files/{name}/content", cast_to=object)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", b"a,b", "Must be .jsonl"),
        ("train.jsonl", b'{"messages": []}\n{"messages"\n', "Line 2"),
        ("train.jsonl", b"[1]\n", "Line 1"),
        ("train.jsonl", b"", "empty"),
        ("train.jsonl", b"\xff\xfe\x00", "Line 1"),
        ("train.jsonl", '\ufeff{"messages": []}\n'.encode("utf-16-le"), "The file is UTF-16: save it as UTF-8"),
        ("train.jsonl", b'{"a":' * 100_000, "Line 1"),
    ],
)
def test_files_that_can_never_be_trained_on_are_refused(
    client: openai.OpenAI, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.files.create(file=(name, content), purpose="fine-tune")
    assert caught.value.param == "file"


def test_upload_does_not_fill_the_memory(client: openai.OpenAI, server: ServerProcess) -> None:
    size = 150 * 2**20
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    file = client.files.create(file=("big.bin", io.BytesIO(bytes(size))), purpose="user_data")
    assert file.bytes == size
    assert process.memory_info().rss - before < 40 * 2**20
    client.files.delete(file.id)


@pytest.mark.parametrize("framing", ["content-length: 600000000", "transfer-encoding: chunked"])
def test_more_than_512_mb_is_refused(server: ServerProcess, framing: str) -> None:
    """At once by its announced size, or as soon as it is too long if it announces none."""
    address = urlsplit(server.base_url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=60) as connection:
        head = ["POST /v1/files HTTP/1.1", "host: localhost", "content-type: multipart/form-data; boundary=b", framing]
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        if "chunked" in framing:
            _send_chunks(connection, 513)
        answer = connection.recv(4096)
    assert b" 413 " in answer.splitlines()[0]
    assert not list((server.data_dir / "files").glob("*.part"))


def _send_chunks(connection: socket.socket, megabytes: int) -> None:
    part = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n'
    connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    try:
        for _ in range(megabytes):
            connection.sendall(chunk)
    except (BrokenPipeError, ConnectionResetError):
        time.sleep(0.1)
