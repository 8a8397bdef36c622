"""What a search finds: said by the API, read by the command line. Cheap to import."""

from __future__ import annotations

import msgspec


class Hit(msgspec.Struct, frozen=True):
    """One picture found. `pixd search --json` prints a list of them."""

    score: float  # cosine, -1 to 1
    sha256: str
    paths: tuple[str, ...]  # path ids
    files: tuple[str, ...]  # on this machine, absolute
    caption: str | None
