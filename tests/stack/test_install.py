from __future__ import annotations

import os
import platform
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings, load
from pixeldetective.stack import install

QUIET = Console(quiet=True)


def test_software_of_another_home_is_used(home: Settings, software: Path) -> None:
    assert install.kafka(home, QUIET).parent == software
    assert os.access(install.qdrant(home, QUIET), os.X_OK)


def test_an_installation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fetch(folder: Path, _: Progress) -> None:
        (folder / "half").touch()
        raise PixdError("no network")

    with pytest.raises(PixdError, match="no network"):
        install._installed(tmp_path / "software" / "kafka", QUIET, "Kafka", 1, fetch)
    assert list((tmp_path / "software").iterdir()) == []


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    def fetch(folder: Path, _: Progress) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(PixdError, match=r"Kafka could not be installed below .*: No space left on device"):
        install._installed(tmp_path / "kafka", QUIET, "Kafka", 1, fetch)


def test_two_first_starts_fetch_once(tmp_path: Path) -> None:
    fetched: list[Path] = []

    def fetch(folder: Path, _: Progress) -> None:
        fetched.append(folder)
        (folder / "done").touch()

    def one() -> None:
        install._installed(tmp_path / "kafka", Console(quiet=True), "Kafka", 1, fetch)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kafka"]


def test_what_an_interrupted_installation_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".kafka.abc").mkdir()
    install._installed(tmp_path / "kafka", QUIET, "Kafka", 1, lambda folder, _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["kafka"]


def test_elsewhere_than_on_linux_the_error_names_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(PixdError, match="docker compose up"):
        install.software(load({"PIXD_HOME": str(tmp_path)}))


def test_a_home_that_java_cannot_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PixdError, match="colon"):
        install.software(load({"PIXD_HOME": str(tmp_path / "a:b")}))


def test_a_mirror_of_the_person_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert install._repositories() is None
    (tmp_path / ".m2").mkdir()
    (tmp_path / ".m2" / "settings.xml").write_text(
        '<settings xmlns="urn:settings"><mirrors><mirror><id>m</id>'
        "<url>https://mirror.example/maven/</url><mirrorOf>central</mirrorOf></mirror></mirrors></settings>"
    )
    assert install._repositories() == {"mirror": "https://mirror.example/maven"}
