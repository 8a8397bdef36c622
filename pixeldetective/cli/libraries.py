"""Commands about libraries: libraries add, list, remove, confirm; scan."""

from __future__ import annotations

from typing import Annotated

import typer

from pixeldetective.cli.output import print_json, say, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The library's name.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Add, list and remove watched folders.", rich_markup_mode=None, no_args_is_help=True)
    group.command(help="Watch a folder from now on.")(add)
    group.command("list", help="List the watched folders.")(list_libraries)
    group.command(help="Stop watching a folder; its pictures leave the collection, its files stay.")(remove)
    group.command(help="Give a held library up: forget its folder and its pictures.")(discard)
    group.command(help="Take the folder that now lies at a held library's place: what is not in it is deleted.")(
        confirm
    )
    app.add_typer(group, name="libraries")
    app.command(help="Look at every file of a library, or of all.")(scan)


def add(folder: Annotated[str, typer.Argument(metavar="[NAME=]FOLDER")]) -> None:
    """Register a folder."""
    from pixeldetective import paths
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations import libraries

    with connected() as connections:
        library = libraries.add(connections, folder)
    say(f"Watching {paths.shown(paths.unquote(library.root))} as “{library.name}”.")


def list_libraries(json: Json = False) -> None:
    """List libraries."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations import libraries

    with connected() as connections:
        found = libraries.listed(connections)
    if json:
        print_json(found)
    elif not found:
        say("No folder is watched. `pixd up FOLDER` adds one.")
    else:
        table(["NAME", "FOLDER", "HELD"], [(row.name, row.folder, row.held or "") for row in found])


def remove(name: Name) -> None:
    """Give a library up."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations import libraries

    with connected() as connections:
        libraries.remove(connections, name)
    say(f"“{name}” is no longer watched; its pictures are leaving the collection. Its files were not touched.")


def discard(name: Name) -> None:
    """Give a held library up."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.errors import UsageError
    from pixeldetective.operations import libraries

    with connected() as connections:
        if libraries.held_because(connections, libraries.known(connections, name)) is None:
            raise UsageError(f"“{name}” is not held. To stop watching it: pixd libraries remove {name}")
        libraries.remove(connections, name)
    say(f"“{name}” is given up; its pictures are leaving the collection.")


def confirm(name: Name) -> None:
    """Confirm a held library."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations import libraries
    from pixeldetective.operations.waiting import scan_all

    with connected() as connections:
        libraries.confirm(connections, name)
        scan_all(connections, [name])
    say(f"“{name}” is confirmed: its folder is right as it is now. What is not in it leaves the collection.")


def scan(
    library: Annotated[str | None, typer.Argument(help="Its name; every library if left out.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until everything found has been indexed.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that --wait waits at most.", min=0.0)] = 600.0,
) -> None:
    """Scan."""
    from pixeldetective.cli.connected import connected
    from pixeldetective.operations import libraries, waiting

    with connected() as connections:
        names = [libraries.known(connections, library).name] if library else list(connections.registry.libraries)
        files = waiting.scan_all(connections, names)
        say(f"Looked for pictures in {', '.join(names) or 'no library'}: {files:,} files announced.")
        if wait:
            waiting.wait_through(connections, timeout)
