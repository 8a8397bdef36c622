"""What every worker process does first: log in one form, stop when asked, serve its metrics."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType

import structlog

from pixeldetective.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Write structured lines to stderr, those of libraries too; the supervisor keeps them in a file per process."""
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(level, logging.WARNING),
        stream=sys.stderr,
        format="timestamp=%(asctime)s level=%(levelname)s event=%(message)r",
    )


def log_problems_only() -> None:
    """Write errors to stderr and nothing else anywhere: for commands, whose stdout is their answer."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.ERROR)


def stop_on_signals() -> threading.Event:
    """An event that is set by SIGTERM or SIGINT; call it from the main thread."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping
