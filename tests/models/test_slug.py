"""Names of models in topics and groups."""

from __future__ import annotations

import re
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from pixeldetective.models.slug import slug


def test_builtin_stays_builtin() -> None:
    assert slug("builtin") == "builtin"


def test_a_slug_is_readable_and_ends_in_the_ids_digest() -> None:
    assert slug("open_clip:ViT-B-32/laion2b_s34b_b79k") == "open-clip-vit-b-32-laion2b-s34b-b79k-090ae925"


@given(st.text(), st.text())
def test_a_slug_is_legal_in_a_topics_name_and_two_ids_share_none(one: str, other: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", slug(one))
    assert (slug(one) == slug(other)) == (one == other)


def test_importing_it_is_cheap() -> None:
    code = "import sys, pixeldetective.models.slug; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
