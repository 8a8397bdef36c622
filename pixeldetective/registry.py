"""The registry: which libraries are watched and which collections are filled.

One compacted topic with one partition; everyone follows it. Written by commands only (`pixd up`, `pixd libraries`,
`pixd collections`), so that what is configured survives every process and can be read with Kafka's own tools.
"""

from __future__ import annotations

from collections.abc import Mapping

from pixeldetective import paths, records, topics
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.records import Collection, Library, Registered
from pixeldetective.settings import Settings
from pixeldetective.view import TopicView


def registry_key(record: Registered) -> str:
    """The Kafka key of a library or collection."""
    return f"{'library' if isinstance(record, Library) else 'collection'}/{record.name}"


class Registry:
    """The libraries and collections as they are now; follows changes by others."""

    def __init__(self, settings: Settings, bootstrap: str) -> None:
        self._settings = settings
        self._bootstrap = bootstrap
        self._view: TopicView[Registered] = TopicView(
            settings, bootstrap, topics.REGISTRY, lambda _key, value, _headers: records.registered(value)
        )
        self._view.sync()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def libraries(self) -> Mapping[str, Library]:
        """Libraries by name."""
        return {item.name: item for _, item in sorted(self._view) if isinstance(item, Library)}

    @property
    def collections(self) -> Mapping[str, Collection]:
        """Collections by name."""
        return {item.name: item for _, item in sorted(self._view) if isinstance(item, Collection)}

    def library(self, name: str) -> Library | None:
        """One library, or None."""
        item = self._view.get(f"library/{name}".encode())
        return item if isinstance(item, Library) else None

    def root(self, name: str) -> bytes | None:
        """The folder of a library on this machine, or None if there is no such library.

        `mounts` in the settings goes before what the registry says: a container has the pictures elsewhere.
        """
        library = self.library(name)
        if library is None:
            return None
        if name in self._settings.mounts:
            return self._settings.mounts[name].encode("utf-8", "surrogateescape")
        return paths.unquote(library.root)

    def file(self, pid: str) -> bytes | None:
        """The file of a path id on this machine, or None if its library is not known."""
        name, relative = paths.split(pid)
        root = self.root(name)
        return None if root is None else root.rstrip(b"/") + b"/" + relative

    def shown_file(self, pid: str) -> str:
        """The file of a path id as it is shown to people and programs: bytes that are not UTF-8 as surrogate escapes.

        The path id itself where its library is not known here.
        """
        try:
            file = self.file(pid)
        except ValueError:
            file = None
        return pid if file is None else file.decode("utf-8", "backslashreplace")

    def put(self, record: Registered) -> None:
        """Write a library or collection; returns when it is durable and this view shows it."""
        self._write(registry_key(record), records.encode(record))

    def remove(self, record: Registered) -> None:
        """Delete a library or collection from the registry; returns when that is durable and this view shows it."""
        self._write(registry_key(record), None)

    def sync(self) -> None:
        """Wait until everything written so far is seen."""
        self._view.sync()

    def close(self) -> None:
        """Stop following."""
        self._view.close()

    def _write(self, key: str, value: bytes | None) -> None:
        producer = ConfirmedProducer(self._settings, self._bootstrap)
        producer.send(topics.REGISTRY, key, value)
        producer.flush()
        self._view.sync()
