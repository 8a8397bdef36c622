from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.settings import Settings, load
from pixeldetective.stack import addresses
from pixeldetective.stack.addresses import Addresses, endpoints

NAMES = ("kafka", "controller", "qdrant_http", "qdrant_grpc", "api")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    found = load({"PIXD_HOME": str(tmp_path)})
    yield found
    addresses.release(found)


@contextmanager
def stranger_on(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)):
        yield


def ports(found: Addresses) -> list[int]:
    return [getattr(found, name) for name in NAMES]


def test_ports_stay_the_same(settings: Settings) -> None:
    first = addresses.choose(settings)
    assert addresses.choose(settings) == first
    assert addresses.remembered(settings) == first
    assert len(set(ports(first))) == 5


def test_a_default_port_is_taken_where_it_is_free(settings: Settings) -> None:
    with addresses._claims() as claims:
        claimed = claims.of_others(settings.home)
    chosen = addresses.choose(settings)
    default = Addresses()
    for name in NAMES:
        if addresses.is_free(getattr(default, name)) and getattr(default, name) not in claimed:
            assert getattr(chosen, name) == getattr(default, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_remembered_port_that_a_stranger_took_is_replaced(settings: Settings, name: str) -> None:
    before = addresses.choose(settings)
    with stranger_on(getattr(before, name)):
        after = addresses.choose(settings)
    assert getattr(after, name) != getattr(before, name)
    for other in set(NAMES) - {name}:
        assert getattr(after, other) == getattr(before, other)


def test_another_wish_for_the_api_port_is_granted(settings: Settings) -> None:
    addresses.choose(settings)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        free: int = sock.getsockname()[1]
    assert addresses.choose(msgspec.structs.replace(settings, api_port=free)).api == free


def test_homes_that_start_at_once_never_meet(tmp_path: Path) -> None:
    homes = [load({"PIXD_HOME": str(tmp_path / str(number))}) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        chosen = [port for found in pool.map(addresses.choose, homes) for port in ports(found)]
    for home in homes:
        addresses.release(home)
    assert len(set(chosen)) == len(chosen)


def test_clusters_that_are_configured_come_first(settings: Settings) -> None:
    local = addresses.choose(settings)
    both = msgspec.structs.replace(settings, kafka_bootstrap="k1:9092,k2:9092", qdrant_url="https://q:7000")
    assert endpoints(both).kafka_bootstrap == "k1:9092,k2:9092"
    assert endpoints(both).qdrant_url == "https://q:7000"
    assert endpoints(both).qdrant_grpc_port == 7001
    one = msgspec.structs.replace(settings, kafka_bootstrap="k1:9092")
    assert endpoints(one).qdrant_url == f"http://127.0.0.1:{local.qdrant_http}"
    assert endpoints(one).qdrant_grpc_port == local.qdrant_grpc


def test_without_a_stack_configured_clusters_are_enough(settings: Settings) -> None:
    both = msgspec.structs.replace(settings, kafka_bootstrap="k:1", qdrant_url="http://q", api_host="0.0.0.0")
    assert endpoints(both).qdrant_grpc_port == 6334
    assert endpoints(both).api_url == "http://127.0.0.1:8002"


def test_where_nothing_was_started_the_error_says_how(settings: Settings) -> None:
    with pytest.raises(PixdError, match="pixd up FOLDER"):
        endpoints(settings)
    with pytest.raises(PixdError, match="PIXD_QDRANT_URL is missing"):
        endpoints(msgspec.structs.replace(settings, kafka_bootstrap="k:9092"))


def test_a_damaged_file_is_named(settings: Settings) -> None:
    settings.stack_file.write_text("{")
    with pytest.raises(PixdError, match=r"stack\.json.*Delete it"):
        endpoints(settings)


def test_a_host_of_another_machine_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"203\.0\.113\.7"):
        addresses.choose(msgspec.structs.replace(settings, api_host="203.0.113.7"))
