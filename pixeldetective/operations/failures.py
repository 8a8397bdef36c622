"""Failures: the dead letters, for people, and how to ask for another try."""

from __future__ import annotations

import datetime

import msgspec

from pixeldetective import records, topics
from pixeldetective.errors import UsageError
from pixeldetective.letters import Letter
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.lag import stages
from pixeldetective.operations.qdrant import Qdrant
from pixeldetective.records import Look, Republish
from stream_processors.hashing import STAGE as HASHING


class Failure(msgspec.Struct, frozen=True):
    """One file or content that a stage gave up on."""

    stage: str
    key: str  # path id (stage hashing) or sha256
    paths: tuple[str, ...]  # path ids
    files: tuple[str, ...]  # on this machine, absolute
    reason: str  # a sentence
    error: str  # a kind
    attempts: int
    at: str  # ISO 8601


def failures(connections: Connections, stage: str | None = None) -> list[Failure]:
    """Every failure there is now, newest first. Raises UsageError if there is no such stage."""
    _check_stage(connections, stage)
    found = [
        _failure(connections, letter) for _, letter in connections.letters if stage is None or letter.stage == stage
    ]
    return sorted(found, key=lambda failure: (failure.at, failure.key), reverse=True)


def retry(connections: Connections, stage: str | None = None) -> int:
    """Ask for the current state of everything that failed to be handled once more; returns how many that were.

    The old message is never sent again: it may be out of date.
    """
    _check_stage(connections, stage)
    count = 0
    for _, letter in connections.letters:
        if stage is not None and letter.stage != stage:
            continue
        if letter.stage == HASHING:
            look = Look(letter.key, force=True)
            connections.producer.send(topics.FILE_EVENTS, letter.key, records.encode(look))
        else:
            connections.producer.send(topics.CONTENT_CHANGES, letter.key, records.encode(Republish()))
        count += 1
    connections.producer.flush()
    return count


def _check_stage(connections: Connections, stage: str | None) -> None:
    names = {known.name for known in stages(connections)} | {letter.stage for _, letter in connections.letters}
    if stage is not None and stage not in names:
        raise UsageError(f"There is no stage “{stage}”. There are: {', '.join(sorted(names))}.")


def paths_of(qdrant: Qdrant, collection: str, letter: Letter) -> tuple[str, ...]:
    """The path ids a letter is about, as far as they can be known."""
    if letter.stage == HASHING:
        return (letter.key,)
    if letter.topic == topics.CONTENTS:
        try:
            return records.content(letter.value).paths
        except msgspec.DecodeError:
            pass  # that it cannot be decoded is what the letter says
    point = qdrant.points(collection, [letter.key]).get(letter.key)
    return tuple(point["payload"].get("paths", ())) if point else ()


def _failure(connections: Connections, letter: Letter) -> Failure:
    pids = paths_of(connections.qdrant, connections.settings.collection, letter)
    return Failure(
        stage=letter.stage,
        key=letter.key,
        paths=pids,
        files=tuple(connections.registry.shown_file(pid) for pid in pids),
        reason=letter.reason,
        error=letter.error.value,
        attempts=letter.attempts,
        at=datetime.datetime.fromtimestamp(letter.at, datetime.UTC).isoformat(timespec="milliseconds"),
    )
