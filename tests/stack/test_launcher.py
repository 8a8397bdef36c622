"""`./pixd` before there is an environment, with a `python3` in PATH that records instead of downloading gigabytes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "pixd"
TOOLS = (
    "sh",
    "awk",
    "basename",
    "cat",
    "df",
    "dirname",
    "flock",
    "mkdir",
    "readlink",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "tr",
)

# Answers as Python, venv, pip and uv would; `-m venv` makes an environment whose `python` is this script again.
PYTHON = """\
#!/bin/sh
echo "$*" >>"$RECORD"
case $* in
    *version_info*3,\\ 11*) exit "${TOO_OLD:-0}" ;;
    *'import venv'*) exit "${NO_VENV:-0}" ;;
    *%d.%d*) echo 3.12 ;;
    *'-m venv'*)
        for venv in "$@"; do :; done
        mkdir -p "$venv/bin"
        cat "$0" >"$venv/bin/python"
        chmod +x "$venv/bin/python"
        echo 'version = 3.12.1' >"$venv/pyvenv.cfg" ;;
    *'-m pip config'*) exit 1 ;;
    *' -e '*)
        printf '#!/bin/sh\\nprintf "<%%s>" "$@"\\n' >"$(dirname "$0")/pixd"
        chmod +x "$(dirname "$0")/pixd" ;;
    *requirements.lock*) sleep "${SLOW:-0}"; exit "${NO_NETWORK:-0}" ;;
esac
"""


class Checkout:
    """A copy of the launcher in a folder of its own, and a PATH with nothing but what it needs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out"
        self.root.mkdir()
        shutil.copy(LAUNCHER, self.root / "pixd")
        (self.root / "requirements.lock").write_text("locked\n")
        (self.root / "pyproject.toml").write_text("[project]\n")
        self.path = folder / "bin"
        self.path.mkdir()
        for tool in (*TOOLS, "chmod"):
            (self.path / tool).symlink_to(shutil.which(tool) or tool)
        self.python = self.path / "python3"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        self.record = folder / "record"
        self.record.touch()

    def start(
        self, *arguments: str, launcher: Path | None = None, environ: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(launcher or self.root / "pixd"), *arguments],
            env={"PATH": str(self.path), "RECORD": str(self.record), "HOME": str(self.root), **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def run(
        self, *arguments: str, launcher: Path | None = None, environ: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        process = self.start(*arguments, launcher=launcher, environ=environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def recorded(self, what: str) -> int:
        return sum(what in line for line in self.record.read_text().splitlines())


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_start_sets_up_and_hands_over(checkout: Checkout) -> None:
    code, out, err = checkout.run("search", "a red car", "--json")
    assert (code, out) == (0, "<search><a red car><--json>"), err
    assert "about 3 GB to download" in err
    assert checkout.recorded("--require-hashes") == 1


def test_the_second_start_only_hands_over(checkout: Checkout) -> None:
    checkout.run()
    before = checkout.record.read_text()
    assert checkout.run("ps") == (0, "<ps>", "")
    assert checkout.record.read_text() == before


def test_a_link_to_it_works_from_anywhere(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("a check out/pixd")
    (tmp_path / "elsewhere" / "pixd").symlink_to("../link")
    assert checkout.run("ps", launcher=tmp_path / "elsewhere" / "pixd")[:2] == (0, "<ps>")


def test_other_locked_packages_are_installed_at_the_next_start(checkout: Checkout) -> None:
    checkout.run()
    (checkout.root / "requirements.lock").write_text("other\n")
    _, out, err = checkout.run("ps")
    assert out == "<ps>"
    assert "up to date" in err
    assert checkout.recorded("--require-hashes") == 2
    assert checkout.recorded("-m venv") == 1


def test_an_installation_that_failed_is_repeated(checkout: Checkout) -> None:
    code, out, err = checkout.run("ps", environ={"NO_NETWORK": "1"})
    assert (code, out) == (1, "")
    assert "HTTPS_PROXY" in err
    assert "run ./pixd again" in err
    assert checkout.run("ps")[:2] == (0, "<ps>")


def test_two_first_starts_install_once(checkout: Checkout) -> None:
    both = [checkout.start(name, environ={"SLOW": "0.5"}) for name in ("one", "two")]
    ends = [process.communicate(timeout=60) for process in both]
    assert [out for out, _ in ends] == ["<one>", "<two>"]
    assert sum("Waiting for another ./pixd" in err for _, err in ends) == 1
    assert checkout.recorded("--require-hashes") == 1


def test_without_flock_two_first_starts_install_once(checkout: Checkout) -> None:
    (checkout.path / "flock").unlink()
    both = [checkout.start(name, environ={"SLOW": "0.5"}) for name in ("one", "two")]
    assert [process.communicate(timeout=60)[0] for process in both] == ["<one>", "<two>"]
    assert checkout.recorded("--require-hashes") == 1
    assert not (checkout.root / ".venv.setting-up").exists()


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [({"TOO_OLD": "1"}, "Python 3.11 or newer is needed"), ({"NO_VENV": "1"}, "sudo apt install python3-venv")],
)
def test_a_python_that_will_not_do_is_explained(checkout: Checkout, environ: dict[str, str], sentence: str) -> None:
    if os.access("/usr/bin/python3", os.X_OK):
        # The launcher also looks there, past everything in PATH; this machine may have a good one.
        script = checkout.root / "pixd"
        script.write_text(script.read_text().replace(" /usr/bin/python3", ""))
    code, out, err = checkout.run("ps", environ=environ)
    assert (code, out) == (1, "")
    assert sentence in err


def test_the_checks_stop_at_the_first_that_fails(checkout: Checkout) -> None:
    checkout.run()
    for name, code in (("ruff", 0), ("mypy", 2)):
        (checkout.root / ".venv" / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $*"; exit {code}\n')
        (checkout.root / ".venv" / "bin" / name).chmod(0o755)
    code, out, err = checkout.run("test", "-k", "nothing")
    assert code == 2
    assert out.splitlines() == ["ruff format --check .", "ruff check .", "mypy "]
    assert "pixd test: the type checker failed" in err


def test_what_only_the_tests_need_comes_with_the_test_command(checkout: Checkout) -> None:
    checkout.run()
    assert checkout.recorded("--extra test") == 0
    checkout.start("test").communicate(timeout=60)
    assert checkout.recorded("--extra test") == 1
    assert checkout.run("ps") == (0, "<ps>", ""), "an environment for the tests is one for use"
