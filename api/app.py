"""The HTTP API: it holds the query model, so that a search costs milliseconds instead of seconds.

It keeps no state: whatever it knows it reads from Kafka's registry and from Qdrant.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import structlog
import uvicorn
from fastapi import FastAPI, File, Query, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool

from api.hit import Hit
from api.searching import Searcher
from pixeldetective import metrics
from pixeldetective.errors import PictureError, PixdError, UsageError
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import endpoints

log = structlog.get_logger(__name__)

OPEN = {"/health"}  # what may be asked without a key
Model = Annotated[str | None, Query(description="refuse unless this process has this model")]
Count = Annotated[int, Query(alias="n", description="pictures in the answer")]


def build(settings: Settings, searcher: Searcher) -> FastAPI:
    """The application around a searcher."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Answers from the first moment on; a search waits for the model.
        threading.Thread(target=_load, args=(searcher,), daemon=True, name="load").start()
        yield
        searcher.close()

    app = FastAPI(title="Pixel Detective", lifespan=lifespan)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if settings.api_key and request.url.path not in OPEN:
            given = request.headers.get("x-api-key", "")
            if not hmac.compare_digest(given.encode(), settings.api_key.encode()):
                return _problem(401, "This API asks for a key: send PIXD_API_KEY in the header X-API-Key.")
        asked = request.query_params.get("home")
        if asked is not None and asked != settings.home_key:
            return _problem(409, "This API belongs to another installation on this machine.")
        return await call_next(request)

    @app.exception_handler(UsageError)
    async def wrong(_request: Request, error: UsageError) -> Response:
        return _problem(400, str(error))

    @app.exception_handler(PictureError)
    async def undecodable(_request: Request, error: PictureError) -> Response:
        return _problem(422, str(error))

    @app.exception_handler(PixdError)
    async def unavailable(_request: Request, error: PixdError) -> Response:
        return _problem(503, str(error))

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether this process is alive, and whether its model is loaded ("ready") or still being loaded."""
        return {"status": "ready" if searcher.ready else "loading", "model": searcher.model_id}

    @app.get("/search")
    async def search_text(
        q: Annotated[str, Query(description="what the picture shows")],
        n: Count = 10,
        collection: str = settings.collection,
        model: Model = None,
    ) -> Response:
        """The pictures nearest to a text, nearest first."""
        searcher.check_model(model)
        metrics.SEARCHES.labels(kind="text").inc()
        return _hits(await run_in_threadpool(searcher.text, q, n, collection))

    @app.post("/search/image")
    async def search_image(
        file: Annotated[UploadFile, File(description="the picture")],
        n: Count = 10,
        collection: str = settings.collection,
        model: Model = None,
    ) -> Response:
        """The pictures nearest to a picture, nearest first."""
        searcher.check_model(model)
        metrics.SEARCHES.labels(kind="image").inc()
        data = await file.read()
        extension = (file.filename or "").rpartition(".")[2].lower()
        return _hits(await run_in_threadpool(searcher.image, data, extension, n, collection))

    return app


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises PixdError if Kafka is not there at start."""
    metrics.serve(settings.metrics_port)
    where = endpoints(settings)
    with Registry(settings, where.kafka_bootstrap) as registry:
        app = build(settings, Searcher(settings, where, registry))
        uvicorn.run(app, host=settings.api_host, port=settings.api_port, log_level="warning", access_log=False)


def _load(searcher: Searcher) -> None:
    try:
        searcher.model()
    except PixdError as error:
        log.error("the model cannot be loaded", error=str(error))


def _hits(hits: list[Hit]) -> Response:
    return Response(msgspec.json.encode(hits), media_type="application/json")


def _problem(status: int, text: str) -> Response:
    return Response(msgspec.json.encode({"detail": text}), status_code=status, media_type="application/json")
