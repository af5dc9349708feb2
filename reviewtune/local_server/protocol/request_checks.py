"""What is asked of every request before its route sees it."""

import re

from fastapi import Request

from reviewtune.local_server.protocol import strict_json
from reviewtune.local_server.protocol.api_errors import ApiError


async def check_request(request: Request) -> None:
    """Unknown query parameters and form fields are refused by name; JSON must be text."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known and not ("metadata" in known and re.fullmatch(r"metadata\[.+\]", name)):
            raise _unknown(name)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" and (body := await request.body()):
        _check_json(body)


def _unknown(name: str) -> ApiError:
    return ApiError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def _check_json(body: bytes) -> None:
    try:
        strict_json.loads(body)
    except ValueError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}.") from error


async def refuse_unknown_fields(request: Request, *known: str) -> None:
    """FastAPI has read the form already; this is the same one, which it closes itself."""
    form = await request.form()
    for name in form:
        if name not in known:
            raise _unknown(name)
        if len(form.getlist(name)) > 1:
            raise ApiError(400, f"'{name}' is given more than once.", param=name, code="invalid_value")
