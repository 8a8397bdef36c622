"""Path ids name every file and only one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeldetective import paths

names = st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name)


@given(names.filter(lambda name: name not in {b".", b".."}))
def test_a_path_id_finds_back_to_the_bytes_of_its_file(name: bytes) -> None:
    pid = paths.path_id("lib", b"/root", b"/root/" + name)
    assert pid.encode("utf-8").decode("utf-8") == pid
    assert paths.split(pid) == ("lib", name)


@given(names, names)
def test_two_files_never_share_an_id(one: bytes, other: bytes) -> None:
    assert (paths.quote(one) == paths.quote(other)) == (one == other)


@pytest.mark.parametrize("path", [b"/root", b"/elsewhere/a.jpg", b"/root/../a.jpg"])
def test_what_is_not_below_the_root_has_no_id(path: bytes) -> None:
    with pytest.raises(ValueError, match="not below"):
        paths.path_id("lib", b"/root", path)


def test_names_are_printed_without_control_characters() -> None:
    assert paths.shown(b"two\nlines\x1b[31m\xff.jpg") == "two\\nlines\\x1b[31m\\xff.jpg"
