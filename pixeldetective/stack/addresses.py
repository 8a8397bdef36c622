"""Where the servers listen: the local stack's ports, remembered in PIXD_HOME, or the clusters that are configured.

Written by `choose` when the stack starts, read by `endpoints` in every process.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.settings import Settings

LOCALHOST = "127.0.0.1"

# Below the range from which Linux takes ports for outgoing connections (32768 on), so that none of those is in the way.
FALLBACK_PORTS = range(20_000, 32_000)

# A claim holds a port for a stack that is starting until it listens there itself. Workers import torch first.
CLAIM_SECONDS = 120.0


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """The ports of one home's local stack, all on 127.0.0.1 (the API: on PIXD_API_HOST)."""

    kafka: int = 9092
    controller: int = 9093
    qdrant_http: int = 6333
    qdrant_grpc: int = 6334
    api: int = 8002
    api_wanted: int = 8002  # PIXD_API_PORT when `api` was chosen; another wish is a reason to choose anew


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the servers from this process."""

    kafka_bootstrap: str  # host:port, more of them separated by commas
    qdrant_url: str
    qdrant_grpc_port: int
    api_url: str


def endpoints(settings: Settings) -> Endpoints:
    """Where Kafka, Qdrant and the API are: the configured clusters first, else this home's local stack.

    Says nothing about whether they answer. Raises PixdError if one is neither configured nor was ever started here.
    """
    local = remembered(settings)
    if local is None and not (settings.kafka_bootstrap and settings.qdrant_url):
        missing = "PIXD_QDRANT_URL" if settings.kafka_bootstrap else "PIXD_KAFKA_BOOTSTRAP"
        raise PixdError(
            f"Nothing runs here yet: `pixd up FOLDER` starts Kafka, Qdrant and the workers below {settings.home}. "
            f"For an existing cluster set PIXD_KAFKA_BOOTSTRAP and PIXD_QDRANT_URL ({missing} is missing)."
        )
    here = local or Addresses(api=settings.api_port)
    host = {"0.0.0.0": LOCALHOST, "::": "::1", "": LOCALHOST}.get(settings.api_host, settings.api_host)  # noqa: S104
    return Endpoints(
        kafka_bootstrap=settings.kafka_bootstrap or f"{LOCALHOST}:{here.kafka}",
        qdrant_url=settings.qdrant_url or f"http://{LOCALHOST}:{here.qdrant_http}",
        qdrant_grpc_port=_grpc_port(settings) if settings.qdrant_url else here.qdrant_grpc,
        api_url=f"http://[{host}]:{here.api}" if ":" in host else f"http://{host}:{here.api}",
    )


def remembered(settings: Settings) -> Addresses | None:
    """The ports this home uses, None if it never had a local stack. Raises PixdError if the file is damaged."""
    try:
        return msgspec.json.decode(settings.stack_file.read_bytes(), type=Addresses)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise PixdError(
            f"{settings.stack_file}, which holds the local stack's ports, cannot be read ({error}). "
            "Delete it; the next `pixd up` chooses ports again."
        ) from None


def choose(settings: Settings) -> Addresses:
    """Choose this home's ports and remember them; call it only while the stack of this home does not run.

    A remembered port is kept while it is free, else the default where that is free, else any free one. For two minutes,
    or until `release`, no other home of this user chooses the same, so stacks that start at the same time never meet.
    """
    old = remembered(settings)
    wanted = {**msgspec.structs.asdict(Addresses()), "api": settings.api_port}
    del wanted["api_wanted"]
    kept = {name: int(getattr(old, name)) for name in wanted} if old else {}
    if old and old.api_wanted != settings.api_port:
        del kept["api"]
    with _claims() as claims:
        taken = claims.of_others(settings.home)
        hosts = {name: settings.api_host if name == "api" else LOCALHOST for name in wanted}
        # All that can stay, first: a new port must not be one that another server here is about to keep.
        ports = {name: port for name, port in kept.items() if port not in taken and is_free(port, hosts[name])}
        for name, default in wanted.items():
            if name not in ports:
                ports[name] = _first_free(default, hosts[name], taken | set(ports.values()), settings.home)
        claims.write(settings.home, set(ports.values()))
    chosen = Addresses(**ports, api_wanted=settings.api_port)
    _write(settings.stack_file, msgspec.json.encode(chosen))
    return chosen


def release(settings: Settings) -> None:
    """Give up what `choose` claimed: the stack listens on its ports by now, or has stopped. May be called twice."""
    with _claims() as claims:
        claims.write(settings.home, set())


def is_free(port: int, host: str = LOCALHOST) -> bool:
    """Whether a server could listen on `host` and `port` now.

    Raises UsageError if `host` is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        # Connections of a server that just stopped are no obstacle; servers that listen still are.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise UsageError(
                f"PIXD_API_HOST is set to “{host}”: this machine cannot listen there ({error.strerror})."
            ) from None
    return True


def _short_lived_folder() -> Path:
    """A folder of this user alone, lost when the machine restarts.

    Raises PixdError if somebody else made a folder of that name.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        folder = Path(runtime) / "pixd"
    else:
        folder = Path(tempfile.gettempdir()) / f"pixd-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError as error:
        raise PixdError(
            f"The folder {folder} cannot be made: {error.strerror}. Set TMPDIR to one that can be."
        ) from None
    if state.st_uid != os.getuid() or state.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
        raise PixdError(f"{folder} is open to other users, so it is not safe to use. Remove it, or set TMPDIR.")
    return folder


def _first_free(wish: int, host: str, taken: set[int], home: Path) -> int:
    # The same home draws the same ports, so that what was remembered is found again even if the file is lost.
    draw = random.Random(str(home))  # noqa: S311 — no secret
    for port in [wish, *draw.sample(FALLBACK_PORTS, 1000)]:
        if port and port not in taken and is_free(port, host):
            return port
    raise PixdError("No port is free on this machine for the local stack. `ss -ltnp` shows who listens.")


class _Claims:
    """Ports that stacks of this user have chosen and perhaps do not listen on yet: a file per home. Hold the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> _Claims:
        import fcntl

        fcntl.flock(self.lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.lock)

    def of_others(self, home: Path) -> set[int]:
        ports: set[int] = set()
        for file in self.folder.glob("*.json"):
            if file == self._file(home):
                continue
            if time.time() - file.stat().st_mtime < CLAIM_SECONDS:
                ports.update(json.loads(file.read_bytes() or b"[]"))
            else:
                file.unlink()
        return ports

    def write(self, home: Path, ports: set[int]) -> None:
        if ports:
            _write(self._file(home), json.dumps(sorted(ports)).encode())
        else:
            self._file(home).unlink(missing_ok=True)

    def _file(self, home: Path) -> Path:
        return self.folder / (hashlib.sha256(os.fsencode(home)).hexdigest()[:16] + ".json")


def _claims() -> _Claims:
    folder = _short_lived_folder() / "ports"
    folder.mkdir(mode=0o700, exist_ok=True)
    return _Claims(folder)


def _grpc_port(settings: Settings) -> int:
    # Qdrant's convention, and qdrant-client's: 6333 unless the URL says otherwise, gRPC on the next port.
    try:
        return settings.qdrant_grpc_port or (urlsplit(settings.qdrant_url).port or 6333) + 1
    except ValueError as error:
        raise UsageError(f"PIXD_QDRANT_URL is set to “{settings.qdrant_url}”: {error}.") from None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_bytes(data)
    temporary.replace(path)
