"""Checks of every request before its route runs."""

import codecs
import re

from fastapi import Request

from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.schemas import strict_json


async def check_request(request: Request) -> None:
    """Refuse unknown query parameters by name, and a JSON body that cannot be parsed.

    Raises:
        ApiError: 400, with the parameter's name or the fault of the JSON.
    """
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
        strict_json.loads(body.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}.") from error


async def refuse_unknown_fields(request: Request, *known: str) -> None:
    """Refuse form fields that are not in `known` or are given twice.

    FastAPI has parsed the form already; `request.form()` returns the same one, and FastAPI closes it.

    Raises:
        ApiError: 400, with the field's name.
    """
    form = await request.form()
    for name in form:
        if name not in known:
            raise _unknown(name)
        if len(form.getlist(name)) > 1:
            raise ApiError(400, f"'{name}' is given more than once.", param=name, code="invalid_value")
