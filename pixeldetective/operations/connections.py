"""One command's connections: opened when first needed, closed at its end."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType

from confluent_kafka.admin import AdminClient

from pixeldetective import kafka, topics
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.letters import Letter, decode_letter
from pixeldetective.operations.qdrant import Qdrant
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import Endpoints, endpoints
from pixeldetective.view import TopicView


class Connections:
    """What a command needs of the installation; use it in a `with` statement.

    Raises PixdError, here or at the first use of a part, if something cannot be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.endpoints: Endpoints = endpoints(settings)
        self.bootstrap = self.endpoints.kafka_bootstrap
        kafka.check(settings, self.bootstrap)

    def __enter__(self) -> Connections:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        opened = self.__dict__
        for name in ("registry", "letters", "qdrant"):
            if name in opened:
                opened[name].close()

    @cached_property
    def admin(self) -> AdminClient:
        """Kafka's admin client."""
        return kafka.admin(self.settings, self.bootstrap)

    @cached_property
    def producer(self) -> ConfirmedProducer:
        """A producer."""
        return ConfirmedProducer(self.settings, self.bootstrap)

    @cached_property
    def registry(self) -> Registry:
        """Libraries and collections."""
        return Registry(self.settings, self.bootstrap)

    @cached_property
    def letters(self) -> TopicView[Letter]:
        """All dead letters."""
        view: TopicView[Letter] = TopicView(self.settings, self.bootstrap, topics.DEAD_LETTERS, decode_letter)
        view.sync()
        return view

    @cached_property
    def qdrant(self) -> Qdrant:
        """Qdrant, for questions."""
        return Qdrant(self.settings, self.endpoints)
