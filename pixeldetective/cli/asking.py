"""Commands that ask: status, search, explain, failures, lag."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixeldetective.cli.output import failed, note, print_json, say, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.hit import Hit
    from pixeldetective.operations.status import Status

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(help="Show what is there and what is still to be done.")(status)
    app.command(help="Find pictures by a text, or by a picture.")(search)
    app.command(help="Say why a file is found, is not found yet, or never will be.")(explain)
    app.command(help="Show how far each consumer group is, as Kafka counts it.")(lag)
    failures = typer.Typer(help="List what could not be indexed, and why.", rich_markup_mode=None)
    failures.callback(invoke_without_command=True)(list_failures)
    failures.command("retry", help="Ask for another try at everything that failed.")(retry_failures)
    app.add_typer(failures, name="failures")


def status(
    json: Json = False,
    wait_idle: Annotated[
        bool, typer.Option("--wait-idle", help="Scan every library and wait until all of it has been indexed.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that --wait-idle waits at most.", min=0.0)] = 600.0,
) -> None:
    """Show the state of everything."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.errors import PixdError
    from pixeldetective.operations.status import status as ask
    from pixeldetective.operations.waiting import wait_idle as wait

    with connected() as connections:
        problem: PixdError | None = None
        if wait_idle:
            try:
                wait(connections, timeout)
            except PixdError as error:
                problem = error
        found = ask(connections)
        if json:
            print_json(found)
        else:
            _show_status(found)
    if problem is not None:
        raise problem


def _show_status(found: Status) -> None:
    counts = found.counts
    say(
        f"{'Idle' if found.idle else 'At work'}: {_number(counts.files)} files, {_number(counts.contents)} of them "
        f"different, {_number(counts.searchable)} found by search in the collection “{found.collection}” (model "
        f"{found.model}), {failed(counts.failures)}."
    )
    table(
        ["STAGE", "LAG", "RECORDS/S"],
        [(name, stage.lag, stage.rate) for name, stage in found.stages.items()],
        numbers=["LAG", "RECORDS/S"],
    )
    if found.libraries:
        table(["LIBRARY", "FILES"], list(found.libraries.items()), numbers=["FILES"])
    for library in found.held:
        say(f"Held: {library.library}. {library.reason}")
    if counts.failures:
        say("`pixd failures` tells what could not be indexed, and why.")
    say(f"Kafka {found.endpoints.kafka} · Qdrant {found.endpoints.qdrant} · API {found.endpoints.api}")


def search(
    text: Annotated[str | None, typer.Argument(help="What the picture shows.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="Find pictures that look like this one.")] = None,
    count: Annotated[int, typer.Option("-n", help="Number of pictures.")] = 10,
    collection: Annotated[str | None, typer.Option(help="Where to search; PIXD_COLLECTION by default.")] = None,
    json: Json = False,
) -> None:
    """Search."""
    from pixeldetective.operations.search import search as ask
    from pixeldetective.settings import load
    from pixeldetective.stack import supervisor

    settings = load()
    starting = any(process.name == "api" for process in supervisor.processes(settings))
    hits = ask(settings, text=text, image=image, count=count, collection=collection, starting=starting, say=note)
    if json:
        print_json(hits)
    elif not hits:
        say("Nothing found. `pixd status` tells whether pictures are still being indexed.")
    else:
        show_hits(hits)


def show_hits(hits: Sequence[Hit]) -> None:
    """Pictures found, as people read them."""
    rows = []
    for hit in hits:
        files = hit.files or hit.paths
        more = f" (+{len(files) - 1} more)" if len(files) > 1 else ""
        rows.append((f"{hit.score:.3f}", f"{files[0] if files else hit.sha256}{more}", hit.caption or ""))
    table(["SCORE", "FILE", "CAPTION"], rows, numbers=["SCORE"])


def explain(
    path: Annotated[str, typer.Argument(help="A file, or a path id (library/relative/path).")], json: Json = False
) -> None:
    """Explain one file."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations.explain import explain as ask

    with connected() as connections:
        found = ask(connections, path)
    if json:
        print_json(found)
        return
    say(f"{found.state}: {found.reason}")
    if found.stages:
        table(["STAGE", "STATE"], list(found.stages.items()))
    if found.sha256:
        say(f"sha256 {found.sha256}")


def list_failures(
    context: typer.Context,
    json: Json = False,
    stage: Annotated[str | None, typer.Option(help="Only what this stage gave up on.")] = None,
) -> None:
    """List failures."""
    if context.invoked_subcommand is not None:
        context.obj = stage
        return
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations.failures import failures

    with connected() as connections:
        found = failures(connections, stage)
    if json:
        print_json(found)
    elif not found:
        say("No failures.")
    else:
        rows = [(f.stage, (f.files or f.paths or (f.key,))[0], f.reason, f.attempts, f.at[:19]) for f in found]
        table(["STAGE", "FILE", "REASON", "TRIES", "WHEN (UTC)"], rows, numbers=["TRIES"])


def retry_failures(
    context: typer.Context,
    stage: Annotated[str | None, typer.Option(help="Only what this stage gave up on.")] = None,
) -> None:
    """Ask for another try."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations.failures import retry

    with connected() as connections:
        count = retry(connections, stage or context.obj)
    say(f"Asked for another try at {failed(count)}. `pixd failures` shows what remains.")


def lag(json: Json = False) -> None:
    """Show lags."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations.lag import lags

    with connected() as connections:
        found = lags(connections)
    if json:
        print_json(found)
    else:
        rows = [(row.group, row.topic, row.partition, row.committed, row.end, row.lag) for row in found]
        numbers = ["PARTITION", "COMMITTED", "END", "LAG"]
        table(["GROUP", "TOPIC", *numbers], rows, numbers=numbers)


def _number(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"
