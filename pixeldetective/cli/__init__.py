"""The command line. `main` is what the installed command `pixd` runs."""

from __future__ import annotations

import errno
import os
import sys


def main() -> None:
    """Run one command; a PixdError becomes its sentence on stderr and an exit code, nothing else."""
    from pixeldetective.cli.app import app
    from pixeldetective.errors import PixdError

    if sys.stdout is None:
        sys.exit("pixd: There is no standard output to write to.")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # file names need not be UTF-8
    try:
        app(prog_name="pixd")
        sys.stdout.flush()
    except PixdError as error:
        sys.stderr.write(f"pixd: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has had enough; Python would complain again while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stderr.write(f"pixd: {error.strerror}.\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
