"""The lanes of a partition, interleaved in every way that Kafka can produce, end in the same points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import models

from pixeldetective.errors import Reason
from sinks.fold import fold
from sinks.lanes import Entry, Lane, Lanes, Reader
from sinks.points import Action, Change, operations, plan
from sinks.writer import chunks
from tests.sinks.world import DIMENSION, FakeMessage, caption, content, embedding, sha, unit

LANES = Lanes("contents", "embeddings", "captions")
READER = Reader(LANES, DIMENSION, libraries=("in",))
PATHS = ("in/a", "in/b", "out/c")


@dataclass
class Points:
    """What Qdrant does with changes, as a dictionary."""

    payloads: dict[str, dict[str, Any]] = field(default_factory=dict)
    vectors: dict[str, list[float]] = field(default_factory=dict)

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.action is Action.DELETE:
                self.payloads.pop(change.key)
                self.vectors.pop(change.key, None)
                continue
            if change.action is Action.CREATE:
                assert change.key not in self.payloads
                self.payloads[change.key] = {}
            payload = self.payloads[change.key]
            payload.update(change.payload)
            for key in change.remove:
                del payload[key]
            if change.vector is not None:
                self.vectors[change.key] = change.vector.tolist()


def take(points: Points, entries: Sequence[Entry], passed: dict[int, int]) -> list[Entry]:
    """One batch, as a sink does it; returns what waits."""
    folded = fold(entries, passed)
    existing: Mapping[str, Mapping[str, Any]] = {k: dict(v) for k, v in points.payloads.items() if k in folded.keys}
    points.apply(plan(folded, existing, "builtin").changes)
    for (lane, partition), offset in folded.positions.items():
        if lane is Lane.CONTENTS:
            passed[partition] = offset
    return folded.waiting


@dataclass(frozen=True)
class Step:
    """One record of `contents` and what the stages behind it answer."""

    key: str
    paths: tuple[str, ...] | None  # None: a tombstone
    camera: str | None
    answered: bool  # compaction or a skipping worker may leave out all answers but the last


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([sha(name) for name in "abc"]),
        st.none() | st.sets(st.sampled_from(PATHS), min_size=1).map(lambda paths: tuple(sorted(paths))),
        st.none() | st.sampled_from(["Canon", "Nikon"]),
        st.booleans(),
    ),
    max_size=12,
)


def history(steps: Sequence[Step]) -> tuple[list[Entry], list[Entry], list[Entry], list[Entry]]:
    """The three lanes of one partition, and all of their records in the order of their causes."""
    lanes: dict[str, list[Entry]] = {"contents": [], "embeddings": [], "captions": []}
    ordered = []
    last = {step.key: at for at, step in enumerate(steps)}

    def add(lane: str, key: str, value: bytes | None) -> None:
        lanes[lane].append(READER.read(FakeMessage(lane, len(lanes[lane]), key.encode(), value)))
        ordered.append(lanes[lane][-1])

    for at, step in enumerate(steps):
        add("contents", step.key, None if step.paths is None else content(step.key, *step.paths))
        if not step.answered and last[step.key] != at:
            continue
        seed = int(step.key[:4], 16)
        metadata = {} if step.camera is None else {"camera": step.camera}
        add("embeddings", step.key, None if step.paths is None else embedding(unit(seed), at, **metadata))
        add("captions", step.key, None if step.paths is None else caption(f"seen {seed}", at))
    return lanes["contents"], lanes["embeddings"], lanes["captions"], ordered


@settings(max_examples=200, deadline=None)
@given(STEPS, st.data())
def test_every_interleaving_ends_in_the_points_of_the_order_of_causes(steps: list[Step], data: st.DataObject) -> None:
    *lanes, ordered = history(steps)
    expected = Points()
    passed = {0: 0}
    for entry in ordered:
        assert take(expected, [entry], passed) == []

    points, passed = Points(), {0: 0}
    committed = [0, 0, 0]
    taken = [0, 0, 0]
    waiting: list[Entry] = []
    while any(at < len(lane) for at, lane in zip(taken, lanes, strict=True)) or waiting:
        kind = data.draw(st.sampled_from(["batch", "batch", "batch", "crash"]))
        if kind == "crash":  # back to what is committed; what was written stays written
            taken, waiting = list(committed), []
            passed = {0: committed[0]}
        batch = list(waiting)
        pools = [lane[at:] for at, lane in zip(taken, lanes, strict=True)]
        while any(pools):
            lane = data.draw(st.sampled_from([i for i, pool in enumerate(pools) if pool]))
            batch.append(pools[lane].pop(0))
            taken[lane] += 1
            if data.draw(st.integers(0, 2)) == 0:
                break
        waiting = take(points, batch, passed)
        if data.draw(st.booleans()):  # the commit, in one request
            held = [sum(entry.lane is lane for entry in waiting) for lane in Lane]
            committed = [at - hold for at, hold in zip(taken, held, strict=True)]
    assert points == expected


def test_what_waits_keeps_its_order_and_its_offsets() -> None:
    first = READER.read(FakeMessage("embeddings", 0, sha("a").encode(), embedding(unit(1), 5)))
    second = READER.read(FakeMessage("embeddings", 1, sha("b").encode(), None))
    other = READER.read(FakeMessage("captions", 9, sha("a").encode(), caption("x", 4)))
    folded = fold([first, second, other], {0: 5})
    assert folded.waiting == [first, second]
    assert folded.positions == {(Lane.CAPTIONS, 0): 10}


def test_a_bad_record_does_not_undo_the_good_one_before_and_a_good_one_forgives_it() -> None:
    good = READER.read(FakeMessage("embeddings", 0, sha("a").encode(), embedding(unit(1), 0)))
    bad = READER.read(FakeMessage("embeddings", 1, sha("a").encode(), embedding("?", 0)))
    assert bad.error is not None
    assert bad.error.reason is Reason.BAD_VECTOR
    both = fold([good, bad], {0: 1})
    assert both.states[Lane.EMBEDDINGS] == {sha("a"): good}
    assert list(both.errors.values()) == [bad]
    assert fold([bad, good], {0: 1}).errors == {}


def test_nothing_is_said_about_a_bad_vector_of_a_content_that_is_gone() -> None:
    bad = READER.read(FakeMessage("embeddings", 0, sha("a").encode(), embedding("?", 0)))
    assert plan(fold([bad], {0: 1}), {}, "builtin").errors == []
    assert plan(fold([bad], {0: 1}), {sha("a"): {}}, "builtin").errors == [bad]


def test_what_a_point_says_already_is_not_written_again() -> None:
    entry = READER.read(FakeMessage("contents", 0, sha("a").encode(), content(sha("a"), "in/a")))
    created = plan(fold([entry], {}), {}, "builtin").changes
    assert [change.action for change in created] == [Action.CREATE]
    assert plan(fold([entry], {}), {sha("a"): created[0].payload}, "builtin").changes == []


@given(st.lists(st.sampled_from("abcdef")), st.integers(1, 4))
def test_requests_hold_no_more_contents_than_asked_and_never_part_one(names: list[str], size: int) -> None:
    entry = READER.read(FakeMessage("contents", 0, sha("a").encode(), None))
    changes = [Change(name, Action.FILL, entry) for name in sorted(names)]
    parts = chunks(changes, size)
    assert [change for part in parts for change in part] == changes
    keys = [{change.key for change in part} for part in parts]
    assert all(0 < len(part) <= size for part in keys)
    assert sum(map(len, keys)) == len(set(names))


@given(st.none() | st.binary(max_size=80), st.none() | st.binary(max_size=200), st.sampled_from(list(LANES.by_topic)))
def test_reading_never_raises(key: bytes | None, value: bytes | None, lane: str) -> None:
    entry = READER.read(FakeMessage(lane, 0, key, value))
    assert entry.error is None or entry.error.reason in {Reason.BAD_RECORD, Reason.BAD_VECTOR}


def test_new_pictures_cost_one_operation_and_equal_payloads_another() -> None:
    entry = READER.read(FakeMessage("contents", 0, sha("a").encode(), None))
    fresh = [Change(sha(name), Action.CREATE, entry, {"sha256": sha(name)}) for name in "abc"]
    fresh += [Change(sha(name), Action.FILL, entry, {"format": "JPEG"}, vector=unit(1)) for name in "abc"]
    (upsert,) = operations(fresh)
    assert isinstance(upsert, models.UpsertOperation)
    assert isinstance(upsert.upsert, models.PointsList)
    assert [point.payload for point in upsert.upsert.points] == [{"sha256": sha(n), "format": "JPEG"} for n in "abc"]
    known = [Change(sha(name), Action.FILL, entry, {"format": "JPEG"}, vector=unit(1)) for name in "abc"]
    other = Change(sha("d"), Action.FILL, entry, {"format": "PNG"}, vector=unit(1))
    assert [type(operation) for operation in operations([*known, other])] == [
        models.SetPayloadOperation,
        models.SetPayloadOperation,
        models.UpdateVectorsOperation,
    ]
