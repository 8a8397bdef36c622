from __future__ import annotations

import threading

import pytest
from qdrant_client import models

from pixeldetective.errors import PixdError
from pixeldetective.qdrant import connect
from sinks.collection import Opened, find, open_collection
from tests.sinks.world import DIMENSION, MODEL, World, eventually


def test_opening_twice_finds_the_same_incarnation(world: World) -> None:
    assert find(world.client, world.name) is None
    opened = world.open()
    assert opened.physical == f"{world.name}.{opened.incarnation}"
    assert world.open() == opened == find(world.client, world.name)


def test_sinks_that_start_at_once_agree_and_leave_nothing_behind(world: World) -> None:
    for _ in range(2):
        barrier = threading.Barrier(4)
        found: list[Opened] = []

        def start(barrier: threading.Barrier = barrier, found: list[Opened] = found) -> None:
            client = connect(world.settings, world.where)
            barrier.wait()
            found.append(open_collection(client, world.name, MODEL, DIMENSION))
            client.close()

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1
        names = [c.name for c in world.client.get_collections().collections if c.name.startswith(world.name)]
        assert names == [found[0].physical]
        world.client.delete_collection(found[0].physical)


def test_whoever_comes_after_a_crash_finishes_the_opening(world: World) -> None:
    decided = {"incarnation": "0123abcd", "model": MODEL, "dimension": DIMENSION}
    world.client.create_collection(f"{world.name}.opening", vectors_config={}, metadata=decided)
    world.client.create_collection(
        f"{world.name}.0123abcd",
        vectors_config={"image": models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)},
        metadata=decided,
    )
    assert world.open().incarnation == "0123abcd"
    assert len(world.client.get_collection(world.name).payload_schema) == 13
    assert not world.client.collection_exists(f"{world.name}.opening")


def test_a_collection_of_another_model_is_refused_in_a_sentence(world: World) -> None:
    world.open()
    with pytest.raises(PixdError, match="bound to the model builtin, not to open_clip:a/b"):
        open_collection(world.client, world.name, "open_clip:a/b", DIMENSION)


def test_collections_of_others_are_left_alone(world: World) -> None:
    world.client.create_collection(world.name, vectors_config={})
    try:
        with pytest.raises(PixdError, match="did not make"):
            world.open()
        assert [c.name for c in world.client.get_collections().collections if world.name in c.name] == [world.name]
    finally:
        world.client.delete_collection(world.name)


def test_a_collection_that_was_lost_comes_back_in_full(world: World) -> None:
    keys = {world.picture(f"p{i}", i) for i in range(5)}
    sink, stop = world.start()
    eventually(lambda: world.complete() == keys)
    first = world.open()
    world.client.delete_collection(first.physical)
    sink_thread_ended = world.ended(sink)
    keys.add(world.picture("during", 9))
    eventually(sink_thread_ended)
    stop()
    world.start()
    eventually(lambda: world.complete() == keys)
    assert world.open().incarnation != first.incarnation
    assert world.failures == []
