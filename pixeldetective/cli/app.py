"""The tree of commands. Importing it must stay cheap: `pixd --help` answers in under 0.3 s, so everything heavy is
imported by the command that needs it."""

from __future__ import annotations

import typer

from pixeldetective.cli import asking, libraries, running

app = typer.Typer(
    name="pixd",
    help="Makes folders of photographs searchable by meaning.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
running.register(app)
asking.register(app)
libraries.register(app)
