"""Debouncing: what must hold whatever the order of events."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.debouncer import Debouncer, What

QUIET = 1.0
FOLD = 0.1

whats = st.sampled_from(["closed", "written", "moved", "gone"])
paths = st.sampled_from(["l/a.jpg", "l/b.jpg", "l/c.jpg"])
# A step is an event, or None: whoever announces asks what is due.
steps = st.lists(st.tuples(st.floats(0.0, 0.7), st.one_of(st.none(), st.tuples(paths, whats))), max_size=60).map(
    lambda items: list(zip(accumulate(pause for pause, _ in items), (event for _, event in items), strict=True))
)


@given(steps)
def test_after_the_last_event_of_a_path_it_is_announced(history: list[tuple[float, tuple[str, What] | None]]) -> None:
    debouncer = Debouncer(QUIET, fold=FOLD)
    last_event: dict[str, float] = {}
    last_announced: dict[str, float] = {}
    now = 0.0
    for now, event in history:
        if event is None:
            last_announced.update(dict.fromkeys(debouncer.due(now), now))
        else:
            debouncer.feed(*event, now)
            last_event[event[0]] = now
    end = now + QUIET + FOLD
    last_announced.update(dict.fromkeys(debouncer.due(end), end))
    assert last_announced.keys() == last_event.keys()
    assert all(last_announced[path] >= last_event[path] for path in last_event)
    assert debouncer.next_due is None
    assert len(debouncer) == 0


@given(steps)
def test_nothing_is_announced_while_it_is_written(history: list[tuple[float, tuple[str, What] | None]]) -> None:
    debouncer = Debouncer(QUIET, fold=FOLD)
    latest: dict[str, tuple[What, float]] = {}
    for now, event in history:
        if event is None:
            for path in debouncer.due(now):
                what, since = latest[path]
                assert what != "written" or now >= since + QUIET
        else:
            debouncer.feed(*event, now)
            latest[event[0]] = (event[1], now)


@given(steps)
def test_next_due_is_when_something_is_due(history: list[tuple[float, tuple[str, What] | None]]) -> None:
    debouncer = Debouncer(QUIET, fold=FOLD)
    for now, event in history:
        if event is not None:
            debouncer.feed(*event, now)
            continue
        due = debouncer.next_due
        if due is None or due > now:
            assert debouncer.due(now) == []
        else:
            assert debouncer.due(now) != []


@pytest.mark.parametrize("what", ["closed", "moved", "gone"])
def test_a_complete_file_is_announced_at_once(what: What) -> None:
    debouncer = Debouncer(QUIET)
    debouncer.feed("l/a.jpg", "written", 5.0)
    debouncer.feed("l/a.jpg", what, 5.01)
    assert debouncer.next_due == -math.inf
    assert debouncer.due(5.01) == ["l/a.jpg"]


def test_a_file_closed_a_thousand_times_a_second_is_announced_ten_times_a_second() -> None:
    debouncer = Debouncer(QUIET, fold=FOLD)
    announced = []
    for i in range(1000):
        now = i / 1000
        debouncer.feed("l/a.jpg", "closed", now)
        announced += [now] * len(debouncer.due(now))
    announced += [1.1] * len(debouncer.due(1.1))
    assert len(announced) <= 11
    assert announced[0] == 0.0
    assert announced[-1] >= 0.999


def test_a_long_copy_is_announced_once() -> None:
    debouncer = Debouncer(QUIET)
    announced = []
    for i in range(100):
        debouncer.feed("l/a.jpg", "written", i * 0.5)
        announced += debouncer.due(i * 0.5)
    debouncer.feed("l/a.jpg", "closed", 50.0)
    announced += debouncer.due(50.0)
    assert announced == ["l/a.jpg"]


def test_those_that_waited_longest_go_first_and_a_limit_loses_none() -> None:
    debouncer = Debouncer(QUIET)
    for i in range(10):
        debouncer.feed(f"l/{i}.jpg", "closed", float(i))
    taken = [debouncer.due(20.0, 4) for _ in range(4)]
    assert taken == [[f"l/{i}.jpg" for i in group] for group in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [])]


def test_too_many_paths_become_a_loss_that_is_told_once() -> None:
    debouncer = Debouncer(QUIET, limit=100)
    for i in range(101):
        debouncer.feed(f"l/{i}.jpg", "written", 0.0)
    assert debouncer.take_loss()
    assert not debouncer.take_loss()
    assert debouncer.due(10.0) == []


def test_a_burst_of_a_hundred_thousand_events_costs_less_than_a_second() -> None:
    debouncer = Debouncer(QUIET)
    for i in range(50_000):
        debouncer.feed(f"l/{i}.jpg", "written", i / 50_000)
        debouncer.feed(f"l/{i}.jpg", "closed", i / 50_000)
    taken = 0
    while batch := debouncer.due(1.0, 10_000):
        taken += len(batch)
    assert taken == 50_000
