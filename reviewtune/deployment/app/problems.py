"""Error responses, all in one form: problem details (RFC 9457). They never repeat what the client sent."""

from http import HTTPStatus

from fastapi import Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from reviewtune.deployment.app.schemas import MAX_CHARACTERS, FieldFault, ProblemBody

MEDIA_TYPE = "application/problem+json"
SHOWN = 10  # faults of one request
CLIENT_GONE = 499  # as nginx logs a client that hung up; nobody receives it

_WORDS = {
    "string_type": "must be a string",
    "string_unicode": "must be a string of valid Unicode",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "has only white space",
    "string_too_long": f"is longer than {MAX_CHARACTERS:,} characters",
    "list_type": "must be a list of strings",
    "too_short": "is an empty list",
    "extra_forbidden": "is not known; known are text and texts",
    "model_type": "must be a JSON object with text or texts",
}


class Problem(Exception):  # noqa: N818 - the RFC's noun
    """An error response.

    Args:
        status: HTTP status, 400 or higher.
        detail: what was seen, and what is allowed.
        errors: the faulty parts of the request.
        headers: of the response.
    """

    def __init__(
        self, status: int, detail: str, *, errors: list[FieldFault] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors or [], headers

    @property
    def response(self) -> Response:
        title = "Client Closed Request" if self.status == CLIENT_GONE else HTTPStatus(self.status).phrase
        body = ProblemBody(title=title, status=self.status, detail=self.detail, errors=self.errors)
        return Response(body.model_dump_json(), self.status, self.headers, media_type=MEDIA_TYPE)


def from_validation(error: ValidationError) -> Problem:
    """Status 400 for what is not JSON, 422 for JSON that is not a request."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return Problem(400, 'The body is not valid JSON; send for example {"text": "Three weeks late."}.')
    errors = [FieldFault(pointer=_pointer(fault["loc"]), detail=_words(fault)) for fault in faults[:SHOWN]]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    where = errors[0].pointer or "The body"
    return Problem(422, f"{where} {errors[0].detail}{more}.", errors=errors)


def _pointer(location: tuple[int | str, ...]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)


def _words(fault: object) -> str:
    assert isinstance(fault, dict)
    return _WORDS.get(fault["type"], str(fault["msg"]))


async def problem_response(_: Request, error: Exception) -> Response:
    """Exception handler for `Problem`."""
    assert isinstance(error, Problem)
    return error.response


async def framework_response(request: Request, error: Exception) -> Response:
    """Exception handler for the framework's own errors: unknown route, wrong method."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this path; the service has /classify, /healthz, /readyz, /metrics, /openapi.json."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"This path does not take {request.method}."
    else:
        detail = str(error.detail)
    return Problem(error.status_code, detail, headers=dict(error.headers or {})).response
