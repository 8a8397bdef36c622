from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pixeldetective.settings import Settings
from tests.sinks.world import World

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(local_stack: Settings) -> Iterator[MakeWorld]:
    """Makes worlds that are cleaned up afterwards."""
    made: list[World] = []

    def make(libraries: tuple[str, ...] = ()) -> World:
        made.append(World(local_stack, libraries))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A world with a collection of all libraries."""
    return make_world()
