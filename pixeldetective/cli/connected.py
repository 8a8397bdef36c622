"""How a command gets its connections."""

from __future__ import annotations

from pixeldetective.operations.connections import Connections
from pixeldetective.process import log_problems_only
from pixeldetective.settings import load


def connected() -> Connections:
    """The connections of this command, by the settings of its environment. Raises PixdError."""
    log_problems_only()
    return Connections(load())
