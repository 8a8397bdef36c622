"""The verbs `up` and `down` over the whole local stack."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings
from pixeldetective.stack import addresses, install, kafka_server, programs, qdrant_server, supervisor
from pixeldetective.stack.addresses import Addresses
from pixeldetective.stack.lock import hold
from pixeldetective.stack.programs import Program

START_SECONDS = 60.0  # for Kafka and Qdrant, from their start to their first answer
PORT_ATTEMPTS = 3  # somebody may take a port between our choice and the server's bind

_TELLING = re.compile(r"\b(FATAL|ERROR|panicked|Caused by|[A-Za-z]*Exception|[A-Za-z]*Error)\b|No space left|in use")
_PORT_TAKEN = re.compile(r"address already in use|BindException", re.IGNORECASE)


def _say_nothing(_: str) -> None:
    """For those who do not want to be told."""


def up(
    settings: Settings,
    *,
    prepare: Callable[[], None],
    counts: Mapping[str, int] | None = None,
    progress: Callable[[str], None] = _say_nothing,
    workers: Callable[[Addresses], list[Program]] | None = None,
) -> Addresses:
    """Bring the local stack up: Kafka and Qdrant, then `prepare()` (topics, registry), then the workers.

    `counts` says how many of a kind of worker (one each), `progress` is told what happens, `workers` replaces the list
    of workers. Returns the addresses once the servers answer and the workers have been started. If the stack runs
    already nothing changes, save that what is stopped or missing is started; `prepare` is called in any case. A server
    that is configured elsewhere (PIXD_KAFKA_BOOTSTRAP, PIXD_QDRANT_URL) is not started here. A start that fails raises
    PixdError with the reason and leaves nothing running.
    """
    with _alone(settings, progress):
        if supervisor.is_running(settings):
            here = addresses.remembered(settings) or addresses.choose(settings)
            programs_here = workers(here) if workers else programs.workers(settings, here, counts)
            return _complete(settings, here, prepare, programs_here)
        try:
            here = _servers_up(settings, progress)
            prepare()
            programs_here = workers(here) if workers else programs.workers(settings, here, counts)
            supervisor.add(settings, programs_here)
            progress("Starting the workers …")
            for program in programs_here:
                supervisor.start_one(settings, program.name)
        except BaseException as error:
            supervisor.stop(settings)
            addresses.release(settings)
            if isinstance(error, OSError):
                raise PixdError(f"The local stack cannot start below {settings.home}: {error}.") from None
            raise
        return here


def down(settings: Settings, *, progress: Callable[[str], None] = _say_nothing) -> bool:
    """Stop the workers, then Qdrant and Kafka; returns whether anything ran. Leaves no process, socket or lock behind.

    Also ends what a killed stack left. May be called at any time, twice, and while nothing runs.
    """
    if not settings.home.exists():
        return False
    with _alone(settings, progress):
        running = supervisor.is_running(settings)
        if running:
            progress("Stopping the workers, then Qdrant and Kafka …")
            supervisor.stop(settings)
            left_over = []
        else:
            left_over = supervisor.end_left_overs(settings)
        addresses.release(settings)
    return running or bool(left_over)


def wait_for_servers(settings: Settings, here: Addresses, *, fresh: bool = False) -> None:
    """Wait until this home's Kafka and Qdrant answer. Raises PixdError with the reason of the one that does not.

    `fresh`: they have just been started for the first time, so one that ends is not waited for.
    """
    answers: dict[str, Callable[[], bool]] = {}
    if not settings.kafka_bootstrap:
        answers["kafka"] = lambda: kafka_server.answers(here.kafka)
    if not settings.qdrant_url:
        answers["qdrant"] = lambda: qdrant_server.answers(here.qdrant_http)
    deadline = time.monotonic() + START_SECONDS
    while True:
        ready = {name for name, answered in answers.items() if answered()}
        states = {process.name: process for process in supervisor.processes(settings)}
        for name in answers:
            process = states.get(name)
            # Ours has ended, perhaps because of a stranger on its port, who may be the one that answered.
            if process is None or (fresh and (process.state not in {"starting", "running"} or process.restarts)):
                raise PixdError(_why(settings, name, "ended while it was starting"))
            if name not in ready and time.monotonic() > deadline:
                raise PixdError(_why(settings, name, f"did not answer within {START_SECONDS:.0f} seconds"))
        if ready == set(answers):
            return
        time.sleep(0.05)


def _servers_up(settings: Settings, progress: Callable[[str], None]) -> Addresses:
    console = Console(stderr=True)
    kafka = None if settings.kafka_bootstrap else install.kafka(settings, console)
    qdrant = None if settings.qdrant_url else install.qdrant(settings, console)
    if kafka:
        install.prepare_fast_starts(settings, console)
    # Left-overs first: they hold the ports that are about to be chosen.
    supervisor.end_left_overs(settings)
    attempt = 0
    while True:
        attempt += 1
        here = addresses.choose(settings)
        if kafka:
            where = kafka_server.folder(settings)
            kafka_server.configure(where, here.kafka, here.controller)
            if not (where / "data" / "meta.properties").exists():
                progress("Formatting Kafka's storage …")
            kafka_server.format_storage(kafka, where)
        if qdrant:
            where = qdrant_server.folder(settings)
            qdrant_server.configure(where, here.qdrant_http, here.qdrant_grpc, api_key=settings.qdrant_api_key)
        servers = programs.servers(settings, kafka=kafka, qdrant=qdrant)
        supervisor.start(settings, servers)
        progress(f"Starting {' and '.join(program.name.capitalize() for program in servers)} …")
        marks = {program.name: _log_size(settings, program.name) for program in servers}
        for program in servers:
            supervisor.start_one(settings, program.name)
        try:
            wait_for_servers(settings, here, fresh=True)
        except PixdError:
            said = "".join(_log_since(settings, name, mark) for name, mark in marks.items())
            if attempt == PORT_ATTEMPTS or not _PORT_TAKEN.search(said):
                raise
            supervisor.stop(settings)
        else:
            return here


def _complete(
    settings: Settings, here: Addresses, prepare: Callable[[], None], programs_here: list[Program]
) -> Addresses:
    for process in supervisor.processes(settings):
        if process.state in {"stopped", "exited", "failed"} and process.name in {"kafka", "qdrant"}:
            supervisor.start_one(settings, process.name)
    wait_for_servers(settings, here)
    prepare()
    supervisor.add(settings, programs_here)
    for process in supervisor.processes(settings):
        supervisor.start_one(settings, process.name)
    return here


@contextmanager
def _alone(settings: Settings, progress: Callable[[str], None]) -> Iterator[None]:
    try:
        with hold(
            settings.home / "run" / "lock",
            timeout=600,
            busy=f"Another `pixd up` or `pixd down` has been at work on {settings.home} for ten minutes. End it first.",
            waiting=lambda: progress("Waiting for another `pixd up` or `pixd down` …"),
        ):
            yield
    except OSError as error:
        raise PixdError(
            f"{settings.home} cannot be used for the local stack: {error}. PIXD_HOME sets another."
        ) from None


def _why(settings: Settings, name: str, what: str) -> str:
    log = supervisor.log_of(settings, name)
    lines = [line.strip() for line in _log_since(settings, name, -20_000).splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    reason = (telling or lines or ["it wrote nothing"])[-1]
    return f"{name.capitalize()} {what}: {reason[:500]} (its log is {log})"


def _log_size(settings: Settings, name: str) -> int:
    try:
        return supervisor.log_of(settings, name).stat().st_size
    except FileNotFoundError:
        return 0


def _log_since(settings: Settings, name: str, mark: int) -> str:
    """The log from byte `mark` on; counted from its end where negative."""
    try:
        with supervisor.log_of(settings, name).open("rb") as file:
            file.seek(max(0, mark + _log_size(settings, name)) if mark < 0 else mark)
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
