"""Bad input ends as a failure with a reason and never stops the others."""

from __future__ import annotations

import os
import socket

from tests.pipeline.installation import CAT, ROCKET, Installation


def test_every_bad_file_is_a_failure_with_a_reason_and_the_others_are_found(pixd: Installation) -> None:
    (pixd.folder / "empty.jpg").touch()
    (pixd.folder / "text.jpg").write_text("this is no picture")
    (pixd.folder / "truncated.png").write_bytes(CAT.read_bytes()[:5000])
    (pixd.folder / "noise.dng").write_bytes(os.urandom(4096))
    (pixd.folder / "bomb.bmp").write_bytes(_bomb())
    pixd.drop(CAT, "mislabelled.jpg")
    pixd.drop(ROCKET, "rocket.jpg")
    (pixd.folder / "notes.txt").write_text("not meant to be a picture")
    status = pixd.wait()
    failures = {failure["paths"][0]: failure for failure in pixd.json("failures")}
    bad = {"empty.jpg", "text.jpg", "truncated.png", "noise.dng", "bomb.bmp"}
    assert set(failures) == {f"photos/{name}" for name in bad}
    assert status["counts"]["failures"] == len(bad)
    assert failures["photos/empty.jpg"]["error"] == "empty"
    assert failures["photos/bomb.bmp"]["error"] == "too-large"
    for failure in failures.values():
        assert failure["reason"].endswith(".")
        assert "Traceback" not in failure["reason"]
    hits = pixd.json("search", "a cat")
    assert [hit["paths"][0] for hit in hits] == ["photos/mislabelled.jpg", "photos/rocket.jpg"]
    explained = pixd.json("explain", str(pixd.folder / "truncated.png"))
    assert explained["state"] == "failed"
    assert explained["reason"] == failures["photos/truncated.png"]["reason"]
    assert pixd.json("explain", str(pixd.folder / "notes.txt"))["state"] == "unknown"
    assert pixd.json("explain", str(pixd.folder / "no-such.jpg"))["state"] == "unknown"


def test_a_failure_goes_when_its_file_is_mended_or_deleted(pixd: Installation) -> None:
    (pixd.folder / "mended.jpg").write_text("this is no picture")
    (pixd.folder / "deleted.jpg").write_text("nor is this")
    (pixd.folder / "empty.jpg").touch()
    assert pixd.wait()["counts"]["failures"] == 3
    pixd.drop(ROCKET, "mended.jpg")
    (pixd.folder / "deleted.jpg").unlink()
    (pixd.folder / "empty.jpg").unlink()
    assert pixd.wait()["counts"]["failures"] == 0
    assert pixd.json("failures") == []


def test_retry_counts_another_attempt_at_what_still_fails(pixd: Installation) -> None:
    (pixd.folder / "text.jpg").write_text("this is no picture")
    pixd.wait()
    assert [failure["attempts"] for failure in pixd.json("failures")] == [1]
    pixd.run("failures", "retry")
    pixd.wait()
    assert [failure["attempts"] for failure in pixd.json("failures")] == [2]


def test_things_that_are_no_files_are_left_alone(pixd: Installation) -> None:
    os.mkfifo(pixd.folder / "pipe.jpg")
    (pixd.folder / "folder.jpg").mkdir()
    (pixd.folder / "link.png").symlink_to(CAT)
    (pixd.folder / "loop").symlink_to(".")
    (pixd.folder / ".hidden.png").write_bytes(CAT.read_bytes())
    (pixd.folder / "@eaDir").mkdir()
    (pixd.folder / "@eaDir" / "thumbnail.png").write_bytes(CAT.read_bytes())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(pixd.folder / "socket.jpg"))
        pixd.drop(ROCKET, "folder.jpg/rocket.jpg")
        status = pixd.wait()
    assert status["counts"] == {"files": 1, "contents": 1, "points": 1, "searchable": 1, "failures": 0}
    assert [hit["paths"] for hit in pixd.json("search", "a rocket")] == [["photos/folder.jpg/rocket.jpg"]]
    for name, says in {
        "pipe.jpg": "no regular file",
        "folder.jpg": "is a folder",
        "link.png": "symbolic link",
        "loop/folder.jpg/rocket.jpg": "symbolic links are not followed",
        ".hidden.png": "hidden file",
        "@eaDir/thumbnail.png": "“@eaDir”",
    }.items():
        explained = pixd.json("explain", str(pixd.folder / name))
        assert explained["state"] == "unknown"
        assert says in explained["reason"]


def _bomb() -> bytes:
    """A BMP of 60,000 × 60,000 pixels, by its own account."""
    size, pixels = (60_000).to_bytes(4, "little"), (54).to_bytes(4, "little")
    header = (40).to_bytes(4, "little") + size + size + (1).to_bytes(2, "little") + (24).to_bytes(2, "little")
    return b"BM" + (200).to_bytes(4, "little") + bytes(4) + pixels + header + bytes(200)
