"""Every setting, defined once: its name, type, default and meaning.

A setting comes from the environment (`PIXD_` and the name in capitals), else from `pixd.toml` in PIXD_HOME, else it is
the default here. msgspec does the checking: pydantic-settings would cost every command 0.4 s of imports.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from pixeldetective.errors import UsageError

Positive = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]

# Names that an earlier system used and that people have in their environment.
ALIASES = {"ML_INFERENCE_BATCH_SIZE": "batch_size", "QDRANT_UPSERT_BATCH_SIZE": "upsert_batch_size"}

# Names that are not ours to judge: docker-compose.yml takes its folder of pictures from this one.
NOT_OURS = {"PIXD_PICTURES"}

RASTER_EXTENSIONS = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif")
RAW_EXTENSIONS = (
    *("3fr", "arw", "bay", "bmq", "cap", "cine", "cr2", "cr3", "crw", "cs1", "dc2", "dcr", "dng", "drf", "dsc", "erf"),
    *("fff", "gpr", "ia", "iiq", "k25", "kc2", "kdc", "mdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pef", "ptx"),
    *("pxn", "qtk", "raf", "raw", "rdc", "rw2", "rwl", "rwz", "sr2", "srf", "srw", "sti", "x3f"),
)
JUNK_FOLDERS = ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX", "Thumbs")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one process. Build it with `load`."""

    home: Path = Path("~/.local/share/pixd")  # PIXD_HOME: state of the local stack, caches, pixd.toml

    # Clusters. Empty: the local stack, whose addresses stand in PIXD_HOME.
    kafka_bootstrap: str = ""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: str = ""
    kafka_sasl_password: str = ""
    kafka_ssl_ca_location: str = ""
    qdrant_url: str = ""
    qdrant_grpc_port: Port = 0  # 0: the port after that of the URL, as Qdrant has it by default
    qdrant_api_key: str = ""
    partitions: Positive = 8  # of every topic but `registry`
    replication: Positive = 1  # of every topic

    # Models
    model: str = "builtin"
    caption_model: str = "builtin"  # empty: no captions
    batch_size: Positive = 32  # pictures per forward pass; on a CPU builtin takes 8 at a time whatever this is
    device: str = ""  # "cuda", "cuda:1", "cpu"; empty: CUDA where there is one
    cache_size: Positive = 4 * 1024**3  # bytes of results kept on this machine

    # Qdrant
    upsert_batch_size: Positive = 128  # points per request
    collection: str = "photos"

    # Which files are pictures
    extensions: tuple[str, ...] = RASTER_EXTENSIONS + RAW_EXTENSIONS
    ignore: tuple[str, ...] = JUNK_FOLDERS  # names of folders that are not entered; * and ? as in the shell
    hidden: bool = False  # take files and folders whose name begins with a dot, too
    max_file_size: Positive = 1024**3  # bytes
    max_pixels: Positive = 500_000_000

    # Time
    scan_interval: Seconds = 900.0  # between two scans of every library; 0: only at start
    quiet: Seconds = 1.0  # a file that nobody closed is announced after so many seconds without a write
    recheck: Seconds = 2.0  # a file that changed less than so many seconds ago is looked at once more
    grace: Seconds = 3.0  # how long a content without a path is kept before it is deleted: a rename needs it

    # HTTP
    api_host: str = "127.0.0.1"
    api_port: Port = 8002
    api_key: str = ""

    metrics_port: Port = 0  # where a worker serves its Prometheus metrics; 0: nowhere
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Where this machine has a library when it is not where the registry says: {"photos": "/mnt/photos"}
    mounts: dict[str, str] = {}

    @property
    def home_key(self) -> str:
        """Tells this home from others on the machine, without naming it."""
        return hashlib.sha256(os.fsencode(os.path.realpath(self.home))).hexdigest()[:8]

    @property
    def stack_file(self) -> Path:
        """Where the local stack remembers its addresses (see pixeldetective.stack.addresses)."""
        return self.home / "stack.json"

    @property
    def cache_folder(self) -> Path:
        """Where this machine keeps what it computed or hashed; safe to delete while nothing runs."""
        return self.home / "cache"

    @property
    def models_folder(self) -> Path:
        """Where models keep what they download or compute once per machine."""
        return self.cache_folder / "models"

    @property
    def state_folder(self) -> Path:
        """Where the Faust workers keep their tables; rebuilt from Kafka when it is lost."""
        return self.home / "state"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process.

    Raises UsageError with the setting's name and what is wrong with it.
    """
    environ = os.environ if environ is None else environ
    home = Path(environ.get("PIXD_HOME") or "~/.local/share/pixd").expanduser().absolute()
    values = _from_file(home / "pixd.toml")
    values.update(_from_environment(environ))
    values["home"] = str(home)
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise UsageError(_explain(str(error), values, environ, home / "pixd.toml")) from None


def _path(kind: type, value: Any) -> Any:
    return kind(value)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise UsageError(f"PIXD_HOME is set to {path.parent}, which is no folder.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings file {path} cannot be read: {error}.") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The settings file {path} is not valid TOML: {error}.") from None
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if "home" in values:
        raise UsageError(
            f"{path} sets “home”. Where PIXD_HOME is cannot stand in PIXD_HOME: set it in the environment."
        )
    if unknown:
        raise UsageError(f"{path} sets “{unknown[0]}”, which is no setting. {_nearest(unknown[0])}")
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for alias, field in ALIASES.items():
        if environ.get(alias):
            values[field] = environ[alias]
    for field in Settings.__struct_fields__:
        text = environ.get(f"PIXD_{field.upper()}")
        if text is None or (text == "" and field not in {"ignore", "caption_model"}) or field == "home":
            continue
        if field in {"extensions", "ignore"}:
            values[field] = [item for item in (part.strip() for part in text.split(",")) if item]
        elif field == "mounts":
            values[field] = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
        else:
            values[field] = text
    known = {f"PIXD_{field.upper()}" for field in Settings.__struct_fields__} | NOT_OURS
    for name in environ:
        if name.startswith("PIXD_") and name not in known:
            raise UsageError(f"{name} is not a setting. {_nearest(name.removeprefix('PIXD_').lower(), prefix='PIXD_')}")
    return values


def _nearest(name: str, *, prefix: str = "") -> str:
    import difflib

    close = difflib.get_close_matches(name, Settings.__struct_fields__, n=1, cutoff=0.5)
    if not close:
        return "docs/design.md lists the settings."
    return f"Did you mean {prefix + close[0].upper() if prefix else close[0]}?"


def _explain(message: str, values: Mapping[str, Any], environ: Mapping[str, str], file: Path) -> str:
    what, _, where = message.partition(" - at `$.")
    field = where.rstrip("`").split("[")[0]
    if not field:
        return f"The settings are wrong: {message}."
    variable = f"PIXD_{field.upper()}"
    from_environment = variable in environ or any(
        environ.get(alias) for alias, name in ALIASES.items() if name == field
    )
    name = variable if from_environment else f"“{field}” in {file}"
    choices = get_args(get_type_hints(Settings)[field])
    if what.startswith("Invalid enum value"):
        wanted = f"must be one of {', '.join(map(str, choices))}"
    else:
        wanted = next(
            (text for kind, text in _WANTED.items() if what.startswith(kind)), f"{what[:1].lower()}{what[1:]}"
        )
    return f"{name} is set to “{values.get(field)}”: it {wanted}."


_WANTED = {
    "Expected `int`, got": "must be a whole number",
    "Expected `float`, got": "must be a number",
    "Expected `bool`, got": "must be true or false",
    "Expected `array`, got": "must be a list",
    "Expected `str`, got": "must be a text",
    "Expected `object`, got": "must be a table",
    "Expected `int` >= ": "must be a larger number",
    "Expected `float` >= ": "must not be negative",
    "Expected `int` <= ": "must be a smaller number",
}
