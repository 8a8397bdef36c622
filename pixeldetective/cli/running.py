"""Commands that start and stop: up, down, ps, demo, kafka, worker, setup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pixeldetective.cli.output import note, print_json, say, table

if TYPE_CHECKING:
    from pixeldetective.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(help="Start everything and watch folders; a folder may be given a name: NAME=FOLDER.")(up)
    app.command(help="Stop everything.")(down)
    app.command(help="List the processes of the local stack.")(ps)
    app.command(help="Index sample photos in a home of their own and search them.")(demo)
    app.command(
        help="Run one of Kafka's own tools, e.g. pixd kafka kafka-consumer-groups --describe --all-groups",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(kafka)
    app.command(
        help="Create topics, the default collection and first offsets, and watch folders; `up` does it by itself."
    )(setup)
    app.command(help="Run one worker process.")(worker)


def up(
    folders: Annotated[list[str] | None, typer.Argument(metavar="[NAME=]FOLDER", help="Folders to watch.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once everything has started.")] = False,
) -> None:
    """Start the local stack."""
    from pixeldetective.operations import libraries, setup
    from pixeldetective.operations.connections import Connections
    from pixeldetective.process import log_problems_only
    from pixeldetective.settings import load
    from pixeldetective.stack import local, supervisor
    from pixeldetective.stack.remembered import settings_in_force

    log_problems_only()
    settings = load()
    for folder in folders or []:
        libraries.parse(folder)  # a misspelt folder is said before anything starts
    watched: list[str] = []

    def prepare() -> None:
        with Connections(settings) as connections:
            setup.prepare(connections)
            for folder in folders or []:
                libraries.add(connections, folder)
            watched.extend(libraries.described(connections))

    running = supervisor.is_running(settings)
    local.up(settings, prepare=prepare, progress=note)
    in_force = settings_in_force(settings, started=not running)
    if in_force:
        note(
            f"It was running with other settings ({in_force}). `pixd down` and `pixd up` bring the new ones into force."
        )
    for line in watched:
        note(line)
    if not watched:
        note("No folder is watched yet. `pixd up FOLDER` adds one.")
    if detach:
        note("Running. `pixd status` shows progress, `pixd search TEXT` searches, `pixd down` stops.")
        return
    from pixeldetective.cli.live import follow

    try:
        follow(settings)
    finally:
        note("Stopping …")
        local.down(settings, progress=note)


def down() -> None:
    """Stop the local stack."""
    from pixeldetective.settings import load
    from pixeldetective.stack import local

    settings = load()
    if local.down(settings, progress=note):
        note("Stopped. Everything is kept; `pixd up` goes on.")
    else:
        note("Nothing was running.")


def ps(json: Json = False) -> None:
    """List processes."""
    from pixeldetective.settings import load
    from pixeldetective.stack import supervisor

    settings = load()
    processes = supervisor.processes(settings)
    if json:
        print_json(processes)
    elif not processes:
        say("Nothing is running. `pixd up FOLDER` starts the local stack.")
    else:
        rows = [(p.name, p.pid, p.state, p.restarts) for p in processes]
        table(["NAME", "PID", "STATE", "RESTARTS"], rows, numbers=["PID", "RESTARTS"])
        note(f"Logs: {settings.home / 'logs'}")


def demo() -> None:
    """Index sample photos and search them."""
    from pixeldetective.demo import run
    from pixeldetective.settings import load

    raise typer.Exit(run(load(), say=say, note=note))


def kafka(context: typer.Context, tool: Annotated[str, typer.Argument(help="kafka-topics, kafka-configs, …")]) -> None:
    """Run one of Kafka's own tools with the broker filled in."""
    from pixeldetective.settings import load
    from pixeldetective.stack import kafka_tools

    raise typer.Exit(kafka_tools.run(load(), tool, context.args))


def setup(
    folders: Annotated[list[str] | None, typer.Argument(metavar="[NAME=]FOLDER", help="Folders to watch.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds that Kafka and Qdrant are given to answer.", min=0.0)] = 0.0,
) -> None:
    """Create what must exist before any worker starts."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations import libraries
    from pixeldetective.operations import setup as preparing
    from pixeldetective.process import log_problems_only
    from pixeldetective.settings import load

    log_problems_only()
    for folder in folders or []:
        libraries.parse(folder)
    preparing.wait_for_servers(load(), wait)
    with connected() as connections:
        preparing.prepare(connections)
        for folder in folders or []:
            libraries.add(connections, folder)
        for line in libraries.described(connections):
            note(line)
    note("Topics and the default collection exist.")


def worker(
    kind: Annotated[str, typer.Argument(help="watcher, stream, embedder, captioner, sink or api")],
    model: Annotated[str, typer.Option(help="Model of an embedder or captioner.")] = "",
    collection: Annotated[str, typer.Option(help="Collection of a sink.")] = "",
    worker_id: Annotated[
        str,
        typer.Option("--id", help="Tells workers of one kind on one machine apart; “auto” takes a free one."),
    ] = "1",
) -> None:
    """Run one worker until it is told to stop."""
    from pixeldetective.errors import PixdError
    from pixeldetective.process import configure_logging
    from pixeldetective.settings import load

    settings = load()
    configure_logging(settings)
    try:
        if worker_id == "auto":
            from pixeldetective.slots import slot

            with slot(settings, kind) as (own, number):
                _run_worker(own, kind, model, collection, number)
        else:
            _run_worker(settings, kind, model, collection, worker_id)
    except PixdError as error:
        import structlog

        structlog.get_logger("pixd").error(str(error), worker=kind)
        raise typer.Exit(error.exit_code) from None


def _run_worker(settings: Settings, kind: str, model: str, collection: str, worker_id: str) -> None:
    from pixeldetective.errors import UsageError

    if kind == "watcher":
        from producers import watcher

        watcher.run(settings)
    elif kind == "stream":
        from stream_processors import app

        app.run(settings, worker_id)
    elif kind == "embedder":
        from gpu_consumers import embedder

        embedder.run(settings, model or settings.model, worker_id)
    elif kind == "captioner":
        from gpu_consumers import captioner

        captioner.run(settings, model or settings.caption_model, worker_id)
    elif kind == "sink":
        from sinks import sink

        sink.run(settings, collection or settings.collection, worker_id)
    elif kind == "api":
        from api import app as web

        web.run(settings)
    else:
        raise UsageError(f"There is no worker “{kind}”. There are watcher, stream, embedder, captioner, sink and api.")
