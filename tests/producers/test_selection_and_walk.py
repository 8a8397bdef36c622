"""Which files count, and going through folders that are strange, broken or changing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pixeldetective.settings import Settings
from producers.selection import Selection
from producers.walk import walk


def found(root: Path, settings: Settings | None = None) -> list[bytes]:
    start = len(os.fsencode(root)) + 1
    return sorted(entry.path[start:] for entry in walk(os.fsencode(root), Selection(settings or Settings()), _fail))


def _fail(folder: bytes, error: OSError) -> None:
    raise AssertionError(folder) from error


def put(path: Path | bytes, content: bytes = b"x") -> None:
    text = os.fsdecode(path)
    Path(text).parent.mkdir(parents=True, exist_ok=True)
    Path(text).write_bytes(content)


@pytest.mark.parametrize("name", [b"a.jpg", b"A.JPG", b"caf\xe9.png", b"a\nb.webp", "ü.tiff".encode(), b"50%.nef"])
def test_pictures_count(name: bytes) -> None:
    assert Selection(Settings()).picture(name)


@pytest.mark.parametrize(
    "name", [b"a.txt", b"a.jpg.part", b"a.jpg.crdownload", b"a.jpg~", b".a.jpg", b"._a.jpg", b"jpg", b"a.", b".jpg"]
)
def test_temporary_hidden_and_other_files_do_not(name: bytes) -> None:
    assert not Selection(Settings()).picture(name)


def test_which_files_count_is_a_setting() -> None:
    settings = msgspec.structs.replace(Settings(), extensions=("txt",), hidden=True, ignore=("raw*",))
    selection = Selection(settings)
    assert selection.picture(b".a.txt")
    assert not selection.picture(b"a.jpg")
    assert selection.folder(b".thumbnails")
    assert selection.folder(b"@eaDir")
    assert not selection.folder(b"raw-2024")
    assert Selection(msgspec.structs.replace(Settings(), ignore=())).folder(b"@eaDir")


def test_hidden_and_junk_folders_are_not_entered(tmp_path: Path) -> None:
    for name in ("a.jpg", "d/b.jpg", ".git/c.jpg", "@eaDir/d.jpg", "d/__MACOSX/e.jpg", "d/.f.jpg"):
        put(tmp_path / name)
    assert found(tmp_path) == [b"a.jpg", b"d/b.jpg"]


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "real/a.jpg")
    (tmp_path / "real/loop").symlink_to(tmp_path)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "real/a.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    assert found(tmp_path) == [b"real/a.jpg"]


def test_a_root_may_be_a_symbolic_link(tmp_path: Path) -> None:
    put(tmp_path / "real/a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link") == [b"a.jpg"]


def test_any_name_that_a_file_can_have_is_found(tmp_path: Path) -> None:
    names = [b"caf\xe9.jpg", b"two\nlines.jpg", b" .jpg", b"50%E9.jpg", b"\xff\xfe/\x01.jpg"]
    for name in names:
        put(os.fsencode(tmp_path) + b"/" + name)
    assert found(tmp_path) == sorted(names)


def test_a_pipe_with_a_pictures_name_is_announced_and_a_folder_with_one_is_entered(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    put(tmp_path / "folder.jpg/a.jpg")
    assert found(tmp_path) == [b"folder.jpg/a.jpg", b"pipe.jpg"]


def test_each_folder_is_entered_before_it_is_listed(tmp_path: Path) -> None:
    """A file that appears in the moment between is found: that is what a watch set there relies on."""
    (tmp_path / "d").mkdir()

    def entering(folder: bytes) -> None:
        put(folder + b"/new.jpg")

    root = os.fsencode(tmp_path)
    assert sorted(e.path for e in walk(root, Selection(Settings()), _fail, entering)) == [
        root + b"/d/new.jpg",
        root + b"/new.jpg",
    ]


def test_a_folder_that_vanishes_meanwhile_is_no_trouble_and_a_missing_root_is(tmp_path: Path) -> None:
    put(tmp_path / "d/a.jpg")
    put(tmp_path / "b.jpg")
    troubles: list[bytes] = []

    def entering(folder: bytes) -> None:
        if folder.endswith(b"/d"):
            (tmp_path / "d/a.jpg").unlink()
            (tmp_path / "d").rmdir()

    seen = [
        e.name for e in walk(os.fsencode(tmp_path), Selection(Settings()), lambda f, _: troubles.append(f), entering)
    ]
    assert (seen, troubles) == ([b"b.jpg"], [])
    missing = os.fsencode(tmp_path / "missing")
    assert list(walk(missing, Selection(Settings()), lambda f, _: troubles.append(f))) == []
    assert troubles == [missing]


@pytest.fixture
def mortal_folder() -> Iterator[Path]:
    """A folder, and no rights of root while the test runs: root may read everything."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        nobody = 65534
        os.chown(folder, nobody, nobody)
        os.seteuid(nobody)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_a_folder_that_cannot_be_read_is_told_and_the_walk_goes_on(mortal_folder: Path) -> None:
    put(mortal_folder / "closed/a.jpg")
    put(mortal_folder / "open/b.jpg")
    (mortal_folder / "closed").chmod(0)
    troubles: list[bytes] = []
    try:
        root = os.fsencode(mortal_folder)
        seen = [entry.name for entry in walk(root, Selection(Settings()), lambda f, _: troubles.append(f))]
    finally:
        (mortal_folder / "closed").chmod(0o700)
    assert (seen, troubles) == ([b"b.jpg"], [os.fsencode(mortal_folder / "closed")])


def test_a_path_too_long_for_the_system_is_told_and_the_walk_goes_on(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(b"x" * 250, dir_fd=here)
        there = os.open(b"x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    troubles: list[str | None] = []
    seen = [
        e.name
        for e in walk(os.fsencode(tmp_path), Selection(Settings()), lambda _, error: troubles.append(error.strerror))
    ]
    assert (seen, troubles) == ([b"a.jpg"], ["File name too long"])
