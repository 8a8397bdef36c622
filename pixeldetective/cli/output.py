"""What commands print: one JSON document on stdout, or text and tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec


def print_json(value: Any) -> None:
    """One JSON document on stdout, and nothing else."""
    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(data.decode("utf-8") + "\n")


def say(text: str) -> None:
    """A line for people on stdout."""
    sys.stdout.write(text + "\n")


def failed(count: int) -> str:
    """So many failures, in words."""
    return "1 failure" if count == 1 else f"{count:,} failures"


def note(text: str) -> None:
    """A line for people on stderr: progress, never an answer."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = ()) -> None:
    """A table on stdout, the columns called `numbers` flush right; into a pipe it goes without lines or cuts."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=10_000)
    grid = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for heading in headings:
        grid.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*("–" if cell is None else _printable(str(cell)) for cell in row))
    console.print(grid)


def _printable(text: str) -> str:
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text))
