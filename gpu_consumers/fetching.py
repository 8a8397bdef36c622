"""From a content to its bytes: any of its paths will do, as long as the bytes are the ones that were hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from pixeldetective.errors import PictureError, Reason
from pixeldetective.records import Content


@dataclass(frozen=True)
class Fetched:
    """The bytes of one content."""

    data: bytes
    name: str  # path id they were read from


class NotFetched(PictureError):
    """No path of the content led to its bytes. `suspects` are the paths that hashing should look at again."""

    def __init__(self, reason: Reason, text: str, suspects: tuple[str, ...]) -> None:
        super().__init__(reason, text)
        self.suspects = suspects


def fetch(content: Content, find: Callable[[str], bytes | None]) -> Fetched:
    """Read the content's bytes; blocks. `find` maps a path id to the file on this machine, or None.

    Raises NotFetched if no path has these bytes now: vanished, unreadable, or changed since they were hashed.
    """
    problems: list[NotFetched] = []
    for pid in content.paths:
        path = find(pid)
        if path is None:
            problems.append(NotFetched(Reason.VANISHED, "Its library is not registered any more.", (pid,)))
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(content.size + 1)
        except (FileNotFoundError, NotADirectoryError):
            problems.append(NotFetched(Reason.VANISHED, "The file is not there any more.", (pid,)))
            continue
        except OSError as error:
            text = f"The file cannot be read: {error.strerror or error}."
            problems.append(NotFetched(Reason.UNREADABLE, text, (pid,)))
            continue
        if len(data) == content.size and hashlib.sha256(data).hexdigest() == content.sha256:
            return Fetched(data, pid)
        problems.append(NotFetched(Reason.CHANGED, "The file changed while it was read.", (pid,)))
    # What can be mended says more than what is gone.
    order = (Reason.UNREADABLE, Reason.CHANGED, Reason.VANISHED)
    worst = min(problems, key=lambda problem: order.index(problem.reason))
    suspects = tuple(pid for problem in problems if problem.reason is not Reason.UNREADABLE for pid in problem.suspects)
    raise NotFetched(worst.reason, str(worst), suspects)
