"""What clients send and get, as pydantic models: the OpenAPI description is made from them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

MAX_CHARACTERS = 20_000
"""Of one review: five times the longest of the bundled data sets' reviews."""
MAX_TEXTS = 10_000
"""That are looked at; --max-batch is the real limit. Of a million wrong ones each would be a fault in memory."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS, pattern=r"\S")]


class ClassifyRequest(BaseModel):
    """One review as `text`, or several as `texts`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"text": "Three weeks late."}, {"texts": ["Three weeks late.", "Broken."]}]},
    )

    text: Text | None = Field(None, description="one review")
    texts: Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)] | None = Field(
        None,
        description=f"several reviews; one that is empty or longer than {MAX_CHARACTERS:,} characters gets a result "
        "without a label",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "ClassifyRequest":
        if (self.text is None) == (self.texts is None):
            raise PydanticCustomError("one_of_both", "must have either text (one review) or texts (a list of reviews)")
        return self

    @property
    def reviews(self) -> list[str]:
        return [self.text] if self.text is not None else self.texts or []


class ClassifiedReview(BaseModel):
    """The answer to one review."""

    label: str | None = Field(description="the label; null: there is none, and `why` is the reason")
    confidence: float | None = Field(description="calibrated confidence in [0, 1]; null: the model reports none")
    sure: bool = Field(description="whether the confidence reaches the model's threshold; if not, a person should look")
    why: str | None = Field(description="why there is no label")
    model: str | None = Field(description="name of the model that answered; null: none did")
    version: str | None = Field(description="its version in the registry; null: it was not promoted")


class ClassifyResponse(BaseModel):
    """One result for each review, in order."""

    results: list[ClassifiedReview]


class Health(BaseModel):
    """The process runs."""

    status: str = "ok"


class Readiness(BaseModel):
    """The service can answer."""

    status: str = "ready"
    model: str
    version: str | None


class FieldFault(BaseModel):
    """What is wrong with one part of a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) to the part, such as /texts/3")
    detail: str


class ProblemBody(BaseModel):
    """Every error response (RFC 9457, application/problem+json)."""

    type: str = "about:blank"
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what was seen, and what is allowed")
    errors: list[FieldFault] = Field([], description="the faulty parts of the request, the first ten")
