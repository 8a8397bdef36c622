"""A home of its own for each of several workers that share one folder, as containers share a volume.

A Faust worker's tables can be open in one process only, and the caches' locks tell processes apart by their ids, which
are the same in every container. So each worker takes the lowest number that nobody has and works in that folder.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings
from pixeldetective.stack.lock import hold


@contextmanager
def slot(settings: Settings, kind: str) -> Iterator[tuple[Settings, str]]:
    """Settings whose home is `workers/<kind>-<number>` below this home, and the number, for as long as one is inside.

    Guarantee: no other process on this machine, in whichever container, is given the same meanwhile. A worker that was
    killed leaves its number, tables and caches to the next. Raises PixdError if the folder cannot be made.
    """
    with ExitStack() as held:
        for number in itertools.count(1):
            home = settings.home / "workers" / f"{kind}-{number}"
            try:
                held.enter_context(hold(home / "lock", timeout=0.0, busy="taken"))
            except PixdError:
                continue
            except OSError as error:
                raise PixdError(f"{home} cannot be used: {error.strerror}. PIXD_HOME must be writable.") from None
            break
        yield msgspec.structs.replace(settings, home=home), str(number)
