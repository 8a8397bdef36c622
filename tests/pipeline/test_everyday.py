"""What people do with files, and what the collection is then."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from tests.pipeline.installation import CAT, ROCKET, Installation


def test_a_dropped_picture_is_found_by_text_and_by_image(pixd: Installation) -> None:
    pixd.drop(CAT, "animals/cat.png")
    pixd.drop(ROCKET, "rocket.jpg")
    status = pixd.json("status", "--wait-idle")
    assert status["idle"]
    assert set(status) >= {"idle", "stages", "counts", "held", "endpoints"}
    assert {"hashing", "dedup", "embedder.builtin", "sink.photos"} <= set(status["stages"])
    assert status["counts"] == {"files": 2, "contents": 2, "points": 2, "searchable": 2, "failures": 0}
    hits = pixd.json("search", "a cat")
    assert [hit["paths"] for hit in hits] == [["photos/animals/cat.png"], ["photos/rocket.jpg"]]
    assert hits[0]["files"] == [str(pixd.folder / "animals/cat.png")]
    assert hits[0]["sha256"] == hashlib.sha256(CAT.read_bytes()).hexdigest()
    hits = pixd.json("search", "--image", str(ROCKET), "-n", "1")
    assert [hit["paths"] for hit in hits] == [["photos/rocket.jpg"]]
    assert hits[0]["score"] > 0.99


def test_a_copy_is_a_second_path_of_the_same_point(pixd: Installation) -> None:
    pixd.drop(CAT, "one.png")
    pixd.wait()
    pixd.drop(CAT, "two.png")
    status = pixd.wait()
    sha256 = hashlib.sha256(CAT.read_bytes()).hexdigest()
    assert pixd.in_qdrant() == {sha256: {"photos/one.png", "photos/two.png"}}
    assert status["counts"]["files"] == 2
    assert status["counts"]["contents"] == status["counts"]["points"] == 1


def test_a_rename_keeps_the_point_and_computes_nothing(pixd: Installation) -> None:
    file = pixd.drop(CAT, "cat.png")
    pixd.wait()
    before, computed = pixd.json("search", "a cat"), pixd.computed()
    file.rename(pixd.folder / "tom.png")
    pixd.wait()
    after = pixd.json("search", "a cat")
    assert [hit["paths"] for hit in after] == [["photos/tom.png"]]
    assert [hit["score"] for hit in after] == [hit["score"] for hit in before]
    assert pixd.computed() == computed


def test_a_changed_file_leaves_no_trace_of_the_old_content(pixd: Installation) -> None:
    pixd.drop(CAT, "picture.png")
    pixd.wait()
    pixd.drop(ROCKET, "picture.png")
    pixd.wait()
    assert pixd.in_qdrant() == {hashlib.sha256(ROCKET.read_bytes()).hexdigest(): {"photos/picture.png"}}


def test_a_deleted_file_is_gone(pixd: Installation) -> None:
    file = pixd.drop(CAT, "cat.png")
    pixd.drop(ROCKET, "rocket.jpg")
    pixd.wait()
    assert pixd.json("explain", str(file))["state"] == "indexed"
    file.unlink()
    pixd.wait()
    assert pixd.in_qdrant() == pixd.on_disk()
    assert pixd.json("explain", str(file))["state"] == "gone"
    assert len(pixd.json("search", "a cat")) == 1


def test_a_renamed_folder_of_500_pictures_converges_and_none_is_embedded_again(pixd: Installation) -> None:
    for number in range(500):
        pixd.draw(f"holiday/{number % 7}/{number}.jpg", number)
    pixd.wait()
    assert pixd.in_qdrant() == pixd.on_disk()
    computed = pixd.computed()
    (pixd.folder / "holiday").rename(pixd.folder / "summer")
    pixd.wait()
    assert pixd.in_qdrant() == pixd.on_disk()
    assert len(pixd.in_qdrant()) == 500
    assert not pixd.without_vector()
    assert pixd.computed() == computed


def test_a_folder_moved_in_and_one_moved_out_are_noticed(pixd: Installation, tmp_path: Path) -> None:
    for number in range(5):
        pixd.draw(f"leaving/{number}.jpg", 1000 + number)
    pixd.wait()
    shutil.move(pixd.folder / "leaving", tmp_path / "left")
    elsewhere = tmp_path / "arriving" / "deep"
    elsewhere.mkdir(parents=True)
    shutil.copyfile(CAT, elsewhere / "cat.png")
    shutil.move(tmp_path / "arriving", pixd.folder / "arriving")
    pixd.wait()
    assert (
        pixd.in_qdrant()
        == pixd.on_disk()
        == {hashlib.sha256(CAT.read_bytes()).hexdigest(): {"photos/arriving/deep/cat.png"}}
    )


def test_names_with_line_breaks_and_broken_utf8_are_indexed(pixd: Installation) -> None:
    names = [b"two\nlines.png", b"caf\xe9.png", b"100% cat.png", "日本の猫.png".encode(), b"-n.png"]
    for number, name in enumerate(names):
        picture = pixd.draw(f"x{number}.png", 2000 + number)
        os.rename(picture, os.path.join(os.fsencode(pixd.folder), name))
    status = pixd.wait()
    assert pixd.in_qdrant() == pixd.on_disk()
    assert status["counts"]["points"] == len(names)
    assert not pixd.without_vector()
    found = {path for paths in pixd.in_qdrant().values() for path in paths}
    assert {"photos/two\nlines.png", "photos/caf%E9.png", "photos/100%25 cat.png"} < found
    pixd.run("search", "noise")  # prints them without falling over


def test_what_happened_while_nothing_ran_is_found(pixd: Installation) -> None:
    pixd.drop(CAT, "kept.png")
    for number in range(6):
        pixd.draw(f"{number}.jpg", 3000 + number)
    pixd.wait()
    pixd.run("down")
    assert pixd.json("ps") == []
    (pixd.folder / "0.jpg").unlink()
    (pixd.folder / "1.jpg").rename(pixd.folder / "one.jpg")
    pixd.drop(ROCKET, "2.jpg")
    pixd.draw("new/6.jpg", 3006)
    pixd.run("up", "--detach")
    status = pixd.wait()
    assert pixd.in_qdrant() == pixd.on_disk()
    assert not pixd.without_vector()
    assert status["counts"]["failures"] == 0
