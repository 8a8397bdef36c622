"""Every way in which something can go wrong, named once.

`PixdError` is for the person at the terminal: the command line prints its text and nothing else. `Reason` is for a dead
letter: why one file could not be made searchable. Written by every stage, read by `pixd failures` and `pixd explain`.
"""

from __future__ import annotations

from enum import StrEnum


class PixdError(Exception):
    """A problem that a person can solve: the text says what happened and what to do now.

    `exit_code` is what the command line ends with: 1 not done, 2 wrong usage.
    """

    exit_code = 1


class UsageError(PixdError):
    """What was asked for makes no sense as it was typed or set: a wrong setting, a folder that does not exist."""

    exit_code = 2


class Reason(StrEnum):
    """The kinds of dead letter (header `error`). The sentence beside it (header `reason`) names the details."""

    UNREADABLE = "unreadable"  # permission denied, input/output error: the bytes cannot be had
    EMPTY = "empty"
    TOO_LARGE = "too-large"  # over PIXD_MAX_FILE_SIZE bytes or PIXD_MAX_PIXELS pixels
    UNDECODABLE = "undecodable"  # not a picture, a truncated one, or one that no decoder here knows
    DECODER_CRASHED = "decoder-crashed"
    CHANGED = "changed"  # the file was written to while it was read
    VANISHED = "vanished"  # none of the content's paths could be opened
    MODEL_FAILED = "model-failed"
    BAD_VECTOR = "bad-vector"  # wrong dimension, not finite, not of unit length
    REFUSED = "refused"  # Qdrant answered that the point itself is wrong
    INTERNAL = "internal"  # a defect of Pixel Detective that this file brought to light
    BAD_RECORD = "bad-record"  # a Kafka record that does not follow the schema


class PictureError(Exception):
    """One picture cannot be processed; the rest of its batch can. Becomes a dead letter.

    `reason` is the kind, the text a sentence for people that does not repeat the path.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
