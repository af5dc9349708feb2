"""The FastAPI application: its routes, its error responses, and the threads that run as long as it does."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from reviewtune.local_server.batches import routes as batches_routes
from reviewtune.local_server.batches.runner import BatchRunner
from reviewtune.local_server.chat import routes as chat_routes
from reviewtune.local_server.chat.admission import Admission
from reviewtune.local_server.chat.model_thread import ModelThread
from reviewtune.local_server.chat.service import ChatService
from reviewtune.local_server.completions import routes as completions_routes
from reviewtune.local_server.engine.base_models.disk_space import lacks_space
from reviewtune.local_server.files import routes as files_routes
from reviewtune.local_server.files.service import forget_expired
from reviewtune.local_server.fine_tuning import routes as fine_tuning_routes
from reviewtune.local_server.fine_tuning.scheduler import Scheduler
from reviewtune.local_server.models import routes as models_routes
from reviewtune.local_server.protocol.api_errors import ApiError, disk_full, from_faults
from reviewtune.local_server.protocol.middleware import HEALTH, Activity, RequestMiddleware, is_open
from reviewtune.local_server.protocol.openapi_page import describe
from reviewtune.local_server.protocol.request_checks import check_request
from reviewtune.local_server.protocol.unknown_routes import advice
from reviewtune.local_server.responses import routes as responses_routes
from reviewtune.local_server.responses.service import forget_old
from reviewtune.local_server.storage.account import Account

HOUR = 3600.0  # seconds

log = logging.getLogger(__name__)

RESOURCES = (
    files_routes,
    fine_tuning_routes,
    models_routes,
    chat_routes,
    completions_routes,
    responses_routes,
    batches_routes,
)
ENGINE_PATIENCE = 2.0  # seconds that a working model gets to finish when the server ends


def build(account: Account, activity: Activity) -> FastAPI:
    """The application that serves an account.

    Args:
        account: the open account.
        activity: notes when the last request was there.
    """
    app = FastAPI(
        title="reviewtune local provider",
        version=_version(),
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url=None,  # these pages would load scripts from other hosts
        redoc_url=None,
    )
    app.state.account = account
    app.add_middleware(RequestMiddleware, api_key=account.settings.api_key, activity=activity)
    app.add_exception_handler(HTTPException, _error_response)
    app.add_exception_handler(RequestValidationError, _validation_response)
    for resource in RESOURCES:
        app.include_router(resource.router, dependencies=[Depends(check_request)])
    app.get(HEALTH, tags=["health"])(_health)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend its page
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    account: Account = app.state.account
    model_thread = ModelThread(account.settings.cache_dir)
    scheduler = Scheduler(account, model_thread.expect, model_thread.free_gpu)
    batch_runner = BatchRunner(account, model_thread)
    app.state.chat = ChatService(model_thread, Admission(account.settings.max_waiting), account.settings.log_contents)
    await run_in_threadpool(_forget_safely, account)
    for thread in (model_thread, scheduler, batch_runner):
        thread.start()
    forgetting = asyncio.create_task(_forget_hourly(account))
    yield
    forgetting.cancel()
    await run_in_threadpool(scheduler.close)
    batch_runner.stop()
    app.state.engine_at_rest = await run_in_threadpool(model_thread.close, ENGINE_PATIENCE)
    await run_in_threadpool(batch_runner.join, ENGINE_PATIENCE)


def _forget(account: Account) -> None:
    """Remove what has expired."""
    forget_expired(account)
    forget_old(account)


def _forget_safely(account: Account) -> None:
    try:
        _forget(account)
    except Exception:
        log.exception("what has expired could not be removed; trying again in an hour")


async def _forget_hourly(account: Account) -> None:
    while True:
        await asyncio.sleep(HOUR)
        await run_in_threadpool(_forget_safely, account)


def _version() -> str:
    try:
        return version("reviewtune")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


def _health(request: Request) -> dict[str, Any]:
    account: Account = request.app.state.account
    if account.settings.api_key is not None and is_open(request.scope):
        return {"status": "ok"}
    folder = os.fsencode(account.settings.data_dir).decode("utf-8", "replace")  # a path need not be valid Unicode
    return {"status": "ok", "version": request.app.version, "data_dir": folder, "pid": os.getpid()}


async def _error_response(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ApiError):
        if isinstance(error.__cause__, OSError) and lacks_space(
            error.__cause__
        ):  # the form's file is written while it is read
            account: Account = request.app.state.account
            error = disk_full(account.settings.data_dir)
            return JSONResponse(error.body, error.status_code, error.headers)
        assert isinstance(error, HTTPException)
        error = _from_framework(request, error)
    return JSONResponse(error.body, error.status_code, error.headers)


def _from_framework(request: Request, error: HTTPException) -> ApiError:
    """FastAPI's own errors (unknown route, wrong method, unreadable body) in OpenAI's shape."""
    if error.status_code == 404:
        instead = advice(request.url.path)
        message = f"Invalid URL ({request.method} {request.url.path})"
        return ApiError(404, f"{message}: {instead}." if instead else message)
    if error.status_code == 405:
        api_error = ApiError(405, f"Not allowed to {request.method} on {request.url.path}.")
    else:
        api_error = ApiError(error.status_code, str(error.detail))
    api_error.headers = error.headers
    return api_error


async def _validation_response(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    api_error = from_faults(error.errors(), error.body)
    return JSONResponse(api_error.body, api_error.status_code)
