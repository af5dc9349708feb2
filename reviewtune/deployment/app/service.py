"""The FastAPI application: its routes, and what a request to classify goes through."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core.formatting import counted
from reviewtune.deployment.app.current_model import OPENING, CurrentModel
from reviewtune.deployment.app.metrics import CONTENT_TYPE, AppMetrics
from reviewtune.deployment.app.middleware import Exchange, RequestMiddleware
from reviewtune.deployment.app.openapi_page import CLASSIFY_PROBLEMS, REQUEST_BODY, describe, problems
from reviewtune.deployment.app.problems import (
    CLIENT_GONE,
    Problem,
    framework_response,
    from_validation,
    problem_response,
)
from reviewtune.deployment.app.recorder import Recorder
from reviewtune.deployment.app.request_log import events
from reviewtune.deployment.app.review_queue import QueueFullError, ReviewQueue
from reviewtune.deployment.app.schemas import (
    MAX_CHARACTERS,
    ClassifiedReview,
    ClassifyRequest,
    ClassifyResponse,
    FieldFault,
    Health,
    Readiness,
)
from reviewtune.deployment.app.settings import AppSettings, is_loopback_host
from reviewtune.errors import ReviewtuneError

T = TypeVar("T")
NO_MODEL = "no model can be asked now"
TOO_LONG = Classification(None, why=f"the review is longer than {MAX_CHARACTERS:,} characters")


def build(settings: AppSettings) -> FastAPI:
    """The application.

    Raises:
        ConfigError: the folder of the recording cannot be written.
    """
    queue = ReviewQueue(settings.max_queue)
    metrics = AppMetrics(lambda: queue.reviews)
    current = CurrentModel(settings, metrics)
    recorder = _recorder(settings, metrics)
    app = FastAPI(
        title="reviewtune",
        description="Classifies customer reviews.",
        version=_version(),
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url=None,  # these pages would load scripts from other hosts
        redoc_url=None,
    )
    app.state.service = Service(settings, queue=queue, metrics=metrics, current=current, recorder=recorder)
    names_allowed = settings.api_key is not None or not is_loopback_host(settings.host)
    app.add_middleware(RequestMiddleware, api_key=settings.api_key, names_allowed=names_allowed, metrics=metrics)
    app.add_exception_handler(Problem, problem_response)
    app.add_exception_handler(HTTPException, framework_response)
    _add_routes(app)
    return app


class Service:
    """What the routes share."""

    def __init__(
        self,
        settings: AppSettings,
        *,
        queue: ReviewQueue,
        metrics: AppMetrics,
        current: CurrentModel,
        recorder: Recorder | None,
    ) -> None:
        self.settings, self.queue, self.metrics, self.current = settings, queue, metrics, current
        self._recorder = recorder

    async def classify(self, reviews: Sequence[str]) -> list[Classification]:
        """The answers, within the queue's and the time's limits. A review that is too long is not asked about.

        Raises:
            Problem: 429, 502, 503 or 504.
        """
        analyzer = self.current.analyzer
        if analyzer is None:
            raise self._unready()
        try:
            with self.queue.places(len(reviews)):
                async with asyncio.timeout(self.settings.timeout):
                    return await _classified(analyzer, reviews)
        except QueueFullError as full:
            self.metrics.note_rejected()
            raise self._full(full.retry_after) from full
        except TimeoutError as error:
            raise Problem(504, f"There was no answer within {self.settings.timeout:g} s.") from error
        except ReviewtuneError as error:
            events.warning("the provider failed", extra={"facts": {"reason": str(error)}})
            raise Problem(502, "The model's provider failed; the service's log has the reason.") from error

    async def record(self, reviews: Sequence[str], answers: Sequence[Classification]) -> None:
        """Keep them, if the user wants that."""
        if self._recorder and self.current.analyzer:
            await self._recorder.record(reviews, answers, self.current.analyzer.written)

    def _unready(self) -> Problem:
        after = {"Retry-After": str(max(1, round(self.settings.refresh)))}
        return Problem(503, f"No model can answer yet: {self.current.state.unready}", headers=after)

    def _full(self, seconds: int) -> Problem:
        detail = f"{self.queue.reviews} of {self.queue.limit} places for reviews are taken; try again in {seconds} s."
        return Problem(429, detail, headers={"Retry-After": str(seconds)})


async def _classified(analyzer: ReviewAnalyzer, reviews: Sequence[str]) -> list[Classification]:
    asked = [review for review in reviews if len(review) <= MAX_CHARACTERS]
    answers = iter(await analyzer.aclassify_reviews(asked) if asked else [])
    return [next(answers) if len(review) <= MAX_CHARACTERS else TOO_LONG for review in reviews]


def _recorder(settings: AppSettings, metrics: AppMetrics) -> Recorder | None:
    """A recorder that runs; None: none is wanted.

    Raises:
        ConfigError: its folder cannot be written.
    """
    if settings.record is None:
        return None
    recorder = Recorder(settings.record, days=settings.record_days, megabytes=settings.record_mb, metrics=metrics)
    recorder.start()
    return recorder


def _add_routes(app: FastAPI) -> None:
    app.post(
        "/classify",
        name="classify",
        response_model=ClassifyResponse,
        responses=problems(*CLASSIFY_PROBLEMS),
        openapi_extra={"requestBody": REQUEST_BODY},
    )(_classify)
    app.get("/healthz", name="healthz")(_healthz)
    app.get("/readyz", name="readyz", response_model=Readiness, responses=problems(503))(_readyz)
    app.get("/metrics", name="metrics", response_class=PlainTextResponse, responses=problems(401))(_metrics)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's documented way to change its page


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    watch = asyncio.create_task(service.current.watch())
    try:
        yield
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


async def _classify(request: Request) -> Response:
    """Classify one review (`text`) or several (`texts`)."""
    service: Service = request.app.state.service
    exchange: Exchange = request.state.exchange
    reviews = await _reviews(request, service.settings)
    answers = await _unless_gone(service.classify(reviews), request)
    service.metrics.note_answers(answers)
    await service.record(reviews, answers)
    exchange.reviews, exchange.unusable = len(answers), sum(answer.label is None for answer in answers)
    first = next((answer for answer in answers if answer.model is not None), answers[0])
    exchange.model, exchange.version = first.model, first.version
    body = ClassifyResponse(results=[ClassifiedReview(**asdict(answer)) for answer in answers])
    return Response(body.model_dump_json(), media_type="application/json")


async def _reviews(request: Request, settings: AppSettings) -> list[str]:
    """The texts of a request.

    Raises:
        Problem: the body is not a request, or it did not arrive in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "Send JSON, with the header 'Content-Type: application/json'.")
    try:
        async with asyncio.timeout(settings.timeout):
            body = await request.body()
    except ClientDisconnect as error:
        raise Problem(CLIENT_GONE, "The client hung up before its request was complete.") from error
    except TimeoutError as error:
        raise Problem(408, f"The request's body did not arrive within {settings.timeout:g} s.") from error
    try:
        reviews = ClassifyRequest.model_validate_json(body).reviews
    except ValidationError as error:
        raise from_validation(error) from None
    if len(reviews) > settings.max_batch:
        detail = f"has {counted(len(reviews), 'review')}; at most {settings.max_batch:,} are allowed in one request"
        raise Problem(422, f"/texts {detail}.", errors=[FieldFault(pointer="/texts", detail=detail)])
    return reviews


async def _unless_gone(work: Coroutine[Any, Any, T], request: Request) -> T:
    """The result of the work, which is cancelled when the client hangs up.

    Raises:
        Problem: nobody waits for the result any more.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_hang_up(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Problem(CLIENT_GONE, "The client hung up.")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _healthz() -> Health:
    """Whether the process runs."""
    return Health()


async def _readyz(request: Request) -> Readiness:
    """Whether a model can answer."""
    state = request.app.state.service.current.state
    if state.unready is not None:
        # Everybody may ask this, so the reason, which may contain names and addresses, is in the log only.
        raise Problem(503, f"Not ready: {OPENING if state.unready == OPENING else NO_MODEL}")
    return Readiness(model=state.model, version=state.version)


async def _metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    service: Service = request.app.state.service
    return Response(service.metrics.page(), media_type=CONTENT_TYPE)


def _version() -> str:
    try:
        return version("reviewtune")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
