"""How much there is, as the dedup workers counted it."""

from __future__ import annotations

import msgspec

from pixeldetective import topics
from pixeldetective.operations.connections import Connections
from pixeldetective.records import Counts
from pixeldetective.view import TopicView


def counts(connections: Connections) -> Counts | None:
    """Files and contents, as the dedup workers counted them; None if a partition has not been counted yet."""
    view: TopicView[Counts] = TopicView(
        connections.settings,
        connections.bootstrap,
        topics.COUNTS,
        lambda _key, value, _headers: msgspec.json.decode(value, type=Counts),
    )
    with view:
        view.sync()
        parts = [part for _, part in view]
    if len(parts) < connections.settings.partitions:
        return None
    libraries: dict[str, int] = {}
    for part in parts:
        for name, files in part.libraries.items():
            libraries[name] = libraries.get(name, 0) + files
    return Counts(libraries, sum(part.contents for part in parts))
