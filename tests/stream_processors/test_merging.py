"""The algebra of deduplication."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pixeldetective.records import ContentChange, Join, Leave
from stream_processors.merging import merge
from stream_processors.rows import ContentRow

names = st.sampled_from(["lib/a", "lib/b", "lib/c"])
versions = st.integers(0, 6)
changes: st.SearchStrategy[ContentChange] = st.one_of(
    st.builds(Join, path=names, version=versions, size=st.just(1)), st.builds(Leave, path=names, version=versions)
)


def merged(history: list[ContentChange]) -> ContentRow:
    row = ContentRow()
    for change in history:
        row = merge(row, change)
    return row


def truth(history: list[ContentChange]) -> set[str]:
    """The paths whose highest version is a join; a join wins a tie."""
    present: set[str] = set()
    for path in {change.path for change in history if isinstance(change, Join | Leave)}:
        newest = max(
            (change.version, isinstance(change, Join))
            for change in history
            if isinstance(change, Join | Leave) and change.path == path
        )
        if newest[1]:
            present.add(path)
    return present


@given(st.lists(changes))
def test_the_highest_version_of_a_path_decides(history: list[ContentChange]) -> None:
    assert set(merged(history).paths) == truth(history)


@given(st.lists(changes), st.randoms(use_true_random=False))
def test_order_makes_no_difference(history: list[ContentChange], random: object) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merged(shuffled).paths == merged(history).paths


@given(st.lists(changes))
def test_repetition_makes_no_difference(history: list[ContentChange]) -> None:
    assert merged(history + history) == merged(history)


def test_old_news_returns_the_row_itself() -> None:
    row = merged([Join("lib/a", 3, 1)])
    assert merge(row, Join("lib/a", 3, 1)) is row
    assert merge(row, Leave("lib/a", 2)) is row
