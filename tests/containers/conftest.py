"""One stack of containers for all tests of this package; the image is built once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.containers.stack import Stack, image_bytes, why_not


@pytest.fixture(scope="package")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The running stack, an empty folder mounted; skips where no engine can run it."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"Containers cannot be tried: {reason}.")
    stack = Stack(tmp_path_factory.mktemp("containers"), f"pixd-test-{os.getpid()}")
    try:
        started = time.monotonic()
        stack.compose("build")
        built = time.monotonic()
        stack.compose("up", "--detach", "--wait")
        up = time.monotonic()
        _tell(
            request.config,
            f"image of {image_bytes() / 1e9:.1f} GB built in {built - started:.0f} s, up in {up - built:.0f} s",
        )
        yield stack
    except AssertionError:
        _tell(request.config, stack.compose("logs", "--tail", "40"))
        raise
    finally:
        stack.docker.stop()


def _tell(config: pytest.Config, text: str) -> None:
    """Write to the terminal whatever is captured."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if terminal is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"\n{text}")
