"""Fetching weights: one process at a time, and its progress in the log."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pixeldetective.models import hub


def test_a_second_process_waits_for_the_download_of_the_first(tmp_path: Path) -> None:
    order: list[str] = []
    inside, second = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait()
        second.set()
        with hub.downloading("open_clip:a/b", cache=tmp_path):
            order.append("second")

    # The lock is on an open file: threads exclude one another as processes do.
    thread = threading.Thread(target=other)
    thread.start()
    with capture_logs() as lines, hub.downloading("open_clip:a/b", cache=tmp_path):
        inside.set()
        second.wait()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert [line["event"] for line in lines] == ["waiting for another process that loads weights"]
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_lets_the_next_process_in(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), hub.downloading("open_clip:a/b", cache=tmp_path):
        raise ValueError("broken")
    with hub.downloading("open_clip:a/b", cache=tmp_path):
        pass


def test_a_download_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "TELL_EVERY", 0.02)
    part = tmp_path / "hub" / "models--a--b" / "blobs" / "0.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 3_500_000)
    told = threading.Event()
    with capture_logs() as lines, hub.downloading("open_clip:a/b", cache=tmp_path):
        told.wait(0.5)
    assert {"event": "downloading weights", "model": "open_clip:a/b", "megabytes": 3, "log_level": "info"} in lines


def test_a_cause_is_one_short_sentence() -> None:
    assert hub.cause(ValueError("no\n  way")) == "no way."
    assert hub.cause(ValueError()) == "ValueError."
    assert len(hub.cause(ValueError("x" * 1000))) < 410
