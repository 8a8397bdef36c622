"""The connection to Qdrant: gRPC, and what its errors mean."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

import grpc
import structlog
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import Endpoints

T = TypeVar("T")
log = structlog.get_logger(__name__)

TIMEOUT = 20  # seconds; a batch takes milliseconds, so after this nobody answers

# gRPC waits up to two minutes before it tries a lost server again; a sink has nothing better to do.
GRPC_OPTIONS = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1000}


class Fault(Enum):
    """What an error of a Qdrant request calls for."""

    TRY_AGAIN = auto()  # unavailable, overloaded or broken for the moment: the request may be fine
    REFUSED = auto()  # the request itself is wrong
    NO_POINT = auto()  # a point that was to be changed is not there
    NO_COLLECTION = auto()
    DENIED = auto()  # the API key is missing or wrong


_FAULTS = {
    grpc.StatusCode.INVALID_ARGUMENT: Fault.REFUSED,
    grpc.StatusCode.OUT_OF_RANGE: Fault.REFUSED,  # among others: a request over the server's size limit
    grpc.StatusCode.FAILED_PRECONDITION: Fault.REFUSED,
    grpc.StatusCode.ALREADY_EXISTS: Fault.REFUSED,
    grpc.StatusCode.UNIMPLEMENTED: Fault.REFUSED,
    grpc.StatusCode.UNAUTHENTICATED: Fault.DENIED,
    grpc.StatusCode.PERMISSION_DENIED: Fault.DENIED,
}

# What a failed request raises: the answers of the server, and values that no request can carry (a number over 64 bits,
# a lone surrogate), which pydantic or protobuf refuse before anything is sent.
ERRORS = (grpc.RpcError, ApiException, ResourceExhaustedResponse, ValueError, TypeError)


def connect(settings: Settings, endpoints: Endpoints) -> QdrantClient:
    """A client. Connects with the first request, so it says nothing about whether Qdrant answers."""
    return QdrantClient(
        url=endpoints.qdrant_url,
        grpc_port=endpoints.qdrant_grpc_port,
        prefer_grpc=True,
        api_key=settings.qdrant_api_key or None,
        timeout=TIMEOUT,
        grpc_options=dict(GRPC_OPTIONS),
        # The client is newer than the server on purpose; it would warn, and ask over HTTP to find out.
        check_compatibility=False,
    )


def fault(error: BaseException) -> Fault:
    """What an error of a request calls for. What is not known to be the request's own fault is worth a repetition."""
    if isinstance(error, ValueError | TypeError):
        return Fault.REFUSED
    if isinstance(error, grpc.RpcError):
        code, text = _code(error), details(error)
        if code is grpc.StatusCode.NOT_FOUND:
            return Fault.NO_POINT if "No point with id" in text else Fault.NO_COLLECTION
        return _FAULTS.get(code, Fault.TRY_AGAIN)
    return Fault.TRY_AGAIN


def patiently(request: Callable[[], T], wait: Callable[[float], None]) -> T:
    """Make a request until Qdrant is well enough to answer it.

    `wait(seconds)` passes the time in between and may raise to give up. Raises what the request raises for any other
    reason, PixdError if the API key is wrong.
    """
    retrying = Retrying(
        sleep=wait,
        retry=retry_if_exception(lambda error: isinstance(error, ERRORS) and fault(error) is Fault.TRY_AGAIN),
        wait=_pause,
        before_sleep=_report,
    )
    try:
        return retrying(request)
    except ERRORS as error:
        if fault(error) is Fault.DENIED:
            raise PixdError(f"Qdrant refuses access ({details(error)}): set PIXD_QDRANT_API_KEY.") from None
        raise


def details(error: BaseException) -> str:
    """What the server said."""
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return str(error.details())
    return str(error)


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code = error.code() if isinstance(error, grpc.Call) else None
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


_backoff = wait_exponential_jitter(multiplier=0.1, max=5.0, jitter=0.1)  # seconds


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = float(error.retry_after_s) if isinstance(error, ResourceExhaustedResponse) else 0.0
    return max(_backoff(state), asked)


def _report(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if error is not None and state.attempt_number in {1, 10, 100, 1000}:
        log.warning("Qdrant does not take requests, trying again", attempts=state.attempt_number, error=details(error))
