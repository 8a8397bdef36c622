"""With which settings the local stack was started."""

from __future__ import annotations

import msgspec

from pixeldetective.settings import Settings

FILE = "started-with.json"  # in PIXD_HOME


def settings_in_force(settings: Settings, *, started: bool) -> str:
    """The names of the settings that differ from those the running stack was started with, "" if none do.

    `started` says that it was started just now, with `settings`; they are remembered then.
    """
    file = settings.home / FILE
    wanted = msgspec.json.decode(msgspec.json.encode(settings, enc_hook=str))
    if started:
        file.touch(mode=0o600)  # a password may be among them
        file.write_bytes(msgspec.json.encode(wanted))
        return ""
    try:
        known = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError):
        return ""
    return ", ".join(f"PIXD_{name.upper()}" for name in wanted if known.get(name) != wanted[name])
