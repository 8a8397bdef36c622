"""The name of a model inside topic and group names."""

from __future__ import annotations

import hashlib
import re

BUILTIN = "builtin"


def slug(model_id: str) -> str:
    """Return a model id as a part of a topic's or group's name: no dots, underscores or capitals.

    `builtin` stays as it is. Any other id is lower-cased, runs of other characters than a–z and 0–9 become `-`, and the
    first 8 hex digits of its SHA-256 keep two ids apart that look the same after that.

    >>> slug("builtin")
    'builtin'
    >>> slug("open_clip:ViT-B-32/laion2b_s34b_b79k")
    'open-clip-vit-b-32-laion2b-s34b-b79k-090ae925'
    """
    if model_id == BUILTIN:
        return BUILTIN
    readable = re.sub(r"[^a-z0-9]+", "-", model_id.lower()).strip("-")
    return f"{readable}-{hashlib.sha256(model_id.encode()).hexdigest()[:8]}"
