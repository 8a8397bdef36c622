"""What docker-compose.yml promises, as far as that can be told without an engine."""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped]  # comes with transformers

from pixeldetective.settings import load
from tests.containers.stack import BASES, ROOT, WORKERS

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_every_process_gets_settings_that_it_knows() -> None:
    for name in ("setup", *WORKERS):
        environment = {key: _default(str(value)) for key, value in SERVICES[name]["environment"].items()}
        settings = load(environment)
        assert settings.kafka_bootstrap == "kafka:9092"
        assert settings.model == "builtin"
        assert settings.caption_model == "builtin"


def test_every_base_image_has_an_exact_version_and_is_known_to_the_tests() -> None:
    used = {service["image"] for service in SERVICES.values()} - {"pixel-detective"}
    built_from = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert used | set(built_from) == set(BASES)


def test_only_the_api_is_published_and_only_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in published["api"])


def test_nobody_may_write_to_the_pictures_and_a_missing_folder_is_an_error() -> None:
    for name in ("setup", *WORKERS):
        (mount,) = (volume for volume in SERVICES[name]["volumes"] if isinstance(volume, dict))
        assert mount["target"] == "/pictures"
        assert mount["read_only"] is True
        assert mount["bind"] == {"create_host_path": False}


def _default(value: str) -> str:
    """What Compose makes of `${NAME:-default}` and `${NAME-default}` where nothing is set."""
    return re.sub(r"\$\{[A-Z_]+:?-([^}]*)\}", r"\1", value)
