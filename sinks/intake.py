"""The records of all lanes of the partitions a sink owns, and the right to write what they say.

Kafka's thread keeps a membership alive only while the process runs. A sink that was frozen (SIGSTOP, a suspended
laptop, a machine that swaps) may have lost its partitions and not know it. So whoever writes asks first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from threading import Event
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pixeldetective.errors import PixdError
from sinks.fold import Folded
from sinks.lanes import Entry, Lane, Lanes, Reader

log = structlog.get_logger(__name__)

Place = tuple[str, int]  # topic, partition

# After this part of the session timeout without a poll the broker is asked whether this member still counts.
FRESH = 1 / 3

# Contents and what follows from them are seconds apart; after this it is worth asking whether the content will come.
DEAD_GATE = 5.0  # seconds

_FENCED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._FENCED,
        KafkaError._MAX_POLL_EXCEEDED,
    }
)


class PartitionsLostError(Exception):
    """The partitions were taken away: nothing of the batch may be written any more, whoever has them now reads it."""


class StoppedError(Exception):
    """The process was asked to stop while it waited."""


class Intake:
    """A consumer of all lanes that gives batches and remembers what may be committed.

    Guarantee: what `batch` gave stays uncommitted until `done` was called about it and `commit` returned. Every
    rebalance forgets what was given and not committed: it is read again by whoever owns it then. After
    `PartitionsLostError`, ask for the next batch; nothing is skipped.
    """

    def __init__(
        self,
        consumer: Consumer,
        lanes: Lanes,
        reader: Reader,
        stopping: Event,
        *,
        session: float,
        on_assigned: Callable[[], None] = lambda: None,
    ) -> None:
        self.passed: dict[int, int] = {}  # partition: offset after the last record of `contents` applied
        self._consumer = consumer
        self._lanes = lanes
        self._topics = {lane: topic for topic, lane in lanes.by_topic.items()}
        self._reader = reader
        self._stopping = stopping
        self._session = session  # seconds
        self._on_assigned = on_assigned
        self._generation = 0
        self._given = 0  # the generation in which the last batch was given
        self._committed: dict[Place, int] = {}
        self._done: dict[Place, int] = {}  # may be committed, is not yet
        self._backlog: list[Message] = []  # came while something else was waited for
        self._held: list[Entry] = []  # wait for the contents lane
        self._held_since = 0.0
        self._paused: set[Place] = set()
        self._all_paused = False
        self.polled = clock()  # when Kafka was last asked, in seconds of `clock`
        consumer.subscribe(
            list(self._topics.values()), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    @property
    def owned(self) -> frozenset[Place]:
        """The partitions this sink has now."""
        return frozenset(self._committed)

    @property
    def waiting(self) -> int:
        """How many records wait for the contents lane."""
        return len(self._held)

    def batch(self, limit: int, timeout: float) -> list[Entry]:
        """Up to about `limit` records, as soon as there is one; none after `timeout` seconds.

        Those that waited come first.
        """
        self._resume()
        messages, self._backlog = self._backlog, []
        if not messages:
            first = self._poll(timeout)
            messages = [] if first is None else [first]
        if messages and len(messages) < limit:
            # What has come meanwhile, without waiting for more: batches grow with the load by themselves.
            generation = self._generation
            messages += [m for m in self._consumer.consume(limit - len(messages), timeout=0) if self._sound(m)]
            self.polled = clock()
            if generation != self._generation:
                self._forget()  # some may be from before the rebalance, and nobody can tell which
                messages = []
        self._given = self._generation
        if not messages:
            return []
        owned = [m for m in messages if (m.topic(), m.partition()) in self._committed]
        return self._held + [self._reader.read(message) for message in owned]

    def check(self) -> None:
        """Raise PartitionsLostError unless what the last batch gave is still this sink's to write."""
        if clock() - self.polled > self._session * FRESH:
            log.warning("was away, asking Kafka whether the partitions are still here")
            self._keep(self._poll(0))
            self._ask()
        if self._given != self._generation:
            raise PartitionsLostError

    def keep_alive(self, seconds: float) -> None:
        """Pass the time without leaving the group: poll with all partitions paused.

        Raises PartitionsLostError if the partitions were taken away meanwhile, StoppedError if the process is to stop.
        """
        if not self._all_paused:
            self._pause(self._committed)
            self._all_paused = True
        until = time.monotonic() + seconds
        while True:
            if self._stopping.is_set():
                raise StoppedError
            left = until - time.monotonic()
            self._keep(self._poll(max(0.0, min(left, 0.1))))
            if self._given != self._generation:
                raise PartitionsLostError
            if left <= 0:
                return

    def done(self, folded: Folded) -> None:
        """What was folded is written and its letters are durable; what waits comes with the next batch again."""
        for (lane, partition), offset in folded.positions.items():
            self._done[self._topics[lane], partition] = offset
            if lane is Lane.CONTENTS:
                self.passed[partition] = offset
        if not self._held and folded.waiting:
            self._held_since = time.monotonic()
        self._held = folded.waiting
        waiting = {(self._topics[entry.lane], entry.partition) for entry in self._held}
        self._pause(waiting - self._paused)
        if not self._all_paused:
            self._consumer.resume([TopicPartition(*place) for place in self._paused - waiting])
        self._paused = waiting

    def commit(self) -> None:
        """Commit what is done, in one request; if Kafka cannot be reached, the next commit includes it.

        Raises PartitionsLostError if this sink is no longer a member of its group.
        """
        if not self._done:
            return
        try:
            self._commit(self._done)
        except KafkaException as error:
            if error.args[0].code() in _FENCED:
                self._forget()
                raise PartitionsLostError from None
            log.warning("commit failed, the next one includes it", error=error.args[0].str())
        else:
            self._committed.update(self._done)
            self._done = {}

    def open_dead_gates(self) -> bool:
        """Let through what has waited for more than DEAD_GATE seconds for a record of `contents` that never was.

        That happens when `contents` was made anew and its offsets began again. Returns whether something may go now.
        """
        if not self._held or time.monotonic() - self._held_since < DEAD_GATE:
            return False
        opened = False
        for entry in self._held:
            if entry.caused_by is None or entry.caused_by < self.passed.get(entry.partition, 0):
                continue
            place = TopicPartition(self._lanes.contents, entry.partition)
            try:
                _, end = self._consumer.get_watermark_offsets(place, timeout=5)
            except KafkaException:
                return opened
            # The record came after what caused it: if that is not there now, it never will be.
            if end <= entry.caused_by:
                log.warning("waited for a record that is not in the topic", topic=place.topic, offset=entry.caused_by)
                self.passed[entry.partition] = entry.caused_by + 1
                opened = True
        self._held_since = time.monotonic()
        return opened

    def held(self) -> list[Entry]:
        """The records that wait, as a batch of their own."""
        self._given = self._generation
        return list(self._held)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _poll(self, timeout: float) -> Message | None:
        message = self._consumer.poll(timeout)
        self.polled = clock()
        return message if message is not None and self._sound(message) else None

    def _keep(self, message: Message | None) -> None:
        if message is not None:
            self._backlog.append(message)

    def _sound(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal():
            raise KafkaException(error)
        log.warning("reading failed, trying again", error=error.str())
        return False

    def _ask(self) -> None:
        """Commit once more what is committed: the broker refuses that to whom it no longer counts as a member."""
        while self._given == self._generation and self._committed:
            try:
                self._commit(self._committed)
            except KafkaException as error:
                if error.args[0].code() in _FENCED:
                    self._forget()
                    raise PartitionsLostError from None
                self.keep_alive(0.5)
            else:
                return

    def _commit(self, positions: Mapping[Place, int]) -> None:
        offsets = [TopicPartition(*place, offset) for place, offset in positions.items()]
        for result in self._consumer.commit(offsets=offsets, asynchronous=False) or []:
            if result.error is not None:
                raise KafkaException(result.error)

    def _resume(self) -> None:
        if self._all_paused:
            self._consumer.resume([TopicPartition(*place) for place in set(self._committed) - self._paused])
            self._all_paused = False

    def _pause(self, places: Iterable[Place]) -> None:
        self._consumer.pause([TopicPartition(*place) for place in places])

    def _forget(self) -> None:
        """Go back to what is committed. A rebalance may follow, but nothing here relies on it."""
        committed = dict(self._committed)
        self._reset()
        self._begin([TopicPartition(*place, offset) for place, offset in committed.items()])

    def _begin(self, places: list[TopicPartition]) -> None:
        for place in places:
            self._committed[place.topic, place.partition] = place.offset
            if place.topic == self._lanes.contents:
                self.passed[place.partition] = place.offset
        self._consumer.assign(places)

    def _reset(self) -> None:
        self._generation += 1
        self.passed = {}
        self._committed = {}
        self._done = {}
        self._backlog = []
        self._held = []
        self._paused = set()
        self._all_paused = False

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._reset()
        starts, fresh = [], []
        for place in consumer.committed(partitions, timeout=30) if partitions else []:
            if place.error is not None:
                raise KafkaException(place.error)
            offset = place.offset
            start = TopicPartition(place.topic, place.partition, offset)
            if offset < 0:
                start.offset, _ = consumer.get_watermark_offsets(place, timeout=30)
                fresh.append(start)
            starts.append(start)
        self._begin(starts)
        if fresh:
            # So that the lag of an empty partition is 0, in Kafka's own tools too, and not unknown.
            consumer.commit(offsets=fresh, asynchronous=True)
        self._on_assigned()
        log.info("partitions assigned", partitions=sorted(self.passed))

    def _revoked(self, _consumer: Any, _partitions: list[TopicPartition]) -> None:
        if self._committed:
            log.info("partitions revoked", partitions=sorted(self.passed))
        self._reset()


def clock() -> float:
    """Seconds that pass while the process is stopped and, where the system can tell, while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def check_topics(consumer: Consumer, lanes: Lanes) -> None:
    """Raise PixdError unless the lanes' topics exist and have equally many partitions."""
    known = consumer.list_topics(timeout=30).topics
    counts = {topic: len(known[topic].partitions) if topic in known else 0 for topic in lanes.by_topic}
    for topic, count in counts.items():
        if not count:
            raise PixdError(f"Kafka has no topic “{topic}”: `pixd up` and `pixd collections create` make it.")
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{topic}: {count}" for topic, count in counts.items())
        raise PixdError(
            f"The topics of a collection must have equally many partitions, or its parts never meet ({text})."
        )
