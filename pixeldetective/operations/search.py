"""Searching from the command line: through the API process where one runs, else with the model in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from api.hit import Hit
from pixeldetective import kafka
from pixeldetective.errors import PictureError, PixdError, UsageError
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import Endpoints, endpoints

LONGEST = 2000  # characters of a query
STARTING = 60.0  # seconds that an API process which is loading its model is waited for


def search(
    settings: Settings,
    *,
    text: str | None = None,
    image: Path | None = None,
    count: int = 10,
    collection: str | None = None,
    starting: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Hit]:
    """The pictures nearest to a text or a picture, nearest first.

    `starting` says that an API process is expected to come up; `say` is told when this takes longer than a moment.
    Raises UsageError if the query makes no sense, PixdError if there is nobody to ask.
    """
    if text is not None and image is not None:
        raise UsageError("Look for a text or for a picture, not for both at once.")
    if text is None and image is None:
        raise UsageError("Say what to look for: pixd search TEXT, or pixd search --image FILE.")
    if text is not None and (len(text) > LONGEST or not _is_utf8(text)):
        raise UsageError(f"The query must be at most {LONGEST:,} characters of UTF-8.")
    data = _read(image) if image is not None else b""
    query = _Query(text or "", image, data, count, collection or settings.collection)
    where = endpoints(settings)
    deadline = time.monotonic() + STARTING
    told = False
    while True:
        try:
            return _ask(settings, where, query)
        except httpx.ConnectError:
            if not starting or time.monotonic() > deadline:
                break
            if not told:
                say("The API process is starting …")
                told = True
            time.sleep(0.2)
        except httpx.HTTPError as error:
            raise PixdError(f"The API at {where.api_url} did not answer: {error or type(error).__name__}.") from None
    kafka.check(settings, where.kafka_bootstrap)
    say("No API process answers, so the model is loaded here: this takes some seconds.")
    return _alone(settings, where, query)


@dataclass(frozen=True)
class _Query:
    text: str
    image: Path | None  # looked for instead of the text
    data: bytes
    count: int
    collection: str


def _ask(settings: Settings, where: Endpoints, query: _Query) -> list[Hit]:
    headers = {"X-API-Key": settings.api_key} if settings.api_key else {}
    asked: dict[str, Any] = {"n": query.count, "collection": query.collection, "model": settings.model}
    if not settings.kafka_bootstrap:
        asked["home"] = settings.home_key
    with httpx.Client(base_url=where.api_url, headers=headers, timeout=STARTING, trust_env=False) as client:
        if query.image is not None:
            answer = client.post("/search/image", params=asked, files={"file": (query.image.name, query.data)})
        else:
            answer = client.get("/search", params={**asked, "q": query.text})
    if answer.is_success:
        return msgspec.json.decode(answer.content, type=list[Hit])
    if answer.status_code == httpx.codes.CONFLICT:
        raise httpx.ConnectError("another installation answers")
    try:
        problem = str(msgspec.json.decode(answer.content)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        problem = f"The API at {where.api_url} failed ({answer.status_code})."
    if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY and query.image is not None:
        problem = f"{query.image}: {problem}"
    raise UsageError(problem) if answer.status_code == httpx.codes.BAD_REQUEST else PixdError(problem)


def _alone(settings: Settings, where: Endpoints, query: _Query) -> list[Hit]:
    from api.searching import Searcher
    from pixeldetective.process import log_problems_only
    from pixeldetective.registry import Registry

    log_problems_only()
    with Registry(settings, where.kafka_bootstrap) as registry:
        searcher = Searcher(settings, where, registry)
        try:
            if query.image is not None:
                extension = query.image.suffix.lower().lstrip(".")
                hits = searcher.image(query.data, extension, query.count, query.collection)
            else:
                hits = searcher.text(query.text, query.count, query.collection)
        except PictureError as error:
            raise PixdError(f"{query.image}: {error}") from None
        finally:
            searcher.close()
    return hits


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise UsageError(f"The picture {image} cannot be read: {error.strerror}.") from None
