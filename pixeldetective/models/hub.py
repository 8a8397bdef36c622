"""Weights from the model hub: one process of a machine downloads, the others wait and find them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from pixeldetective.errors import PixdError
from pixeldetective.stack.lock import hold

log = structlog.get_logger(__name__)

PATIENCE = 6 * 3600.0  # seconds to wait for another process's download: ten gigabytes over a slow line
TELL_EVERY = 5.0  # seconds between two lines of progress


@contextmanager
def downloading(model_id: str, *, cache: Path) -> Iterator[None]:
    """Be the only process of this machine that fetches weights, and log how far that is.

    `cache` is the folder that processes of one machine share. Raises PixdError if another process holds the lock for
    six hours.
    """

    def waiting() -> None:
        log.info("waiting for another process that loads weights", model=model_id)

    busy = f"Another process has been downloading weights for {PATIENCE / 3600:.0f} hours. End it and start again."
    with hold(cache / "hub.lock", timeout=PATIENCE, busy=busy, waiting=waiting):
        done = threading.Event()
        teller = threading.Thread(target=_tell, args=(model_id, done), name="download-progress", daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()


def unreachable(model_id: str, setting: str, example: str, error: Exception) -> PixdError:
    """What to say when the hub did not give what it was asked for."""
    return PixdError(
        f"The weights of {model_id} cannot be had from the model hub: {cause(error)} If this machine has no way there, "
        f"download them on one that has, and set {setting} to where you put them here, as in {example}; or copy that "
        "machine's hub cache here and set HF_HOME to it."
    )


def cause(error: BaseException) -> str:
    """An exception of a library in one sentence."""
    first = " ".join(str(error).strip().split("\n\n")[0].split())
    text = first[:400] + ("…" if len(first) > 400 else "") if first else type(error).__name__
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _tell(model_id: str, done: threading.Event) -> None:
    while not done.wait(TELL_EVERY):
        # Looked up each time: the import is under way while the first download is.
        if megabytes := _arrived() // 10**6:
            log.info("downloading weights", model=model_id, megabytes=megabytes)


def _arrived() -> int:
    """Bytes of the downloads in progress; both of open_clip's sources write to a file that grows."""
    from huggingface_hub import constants

    unfinished = list(Path(constants.HF_HUB_CACHE).glob("models--*/blobs/*.incomplete"))
    total = 0
    for path in unfinished:
        try:
            total += path.stat().st_size
        except OSError:
            continue  # it has just been finished
    return total
