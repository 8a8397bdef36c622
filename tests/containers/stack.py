"""The stack of docker-compose.yml, used as a person would: docker compose, HTTP, and files in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

# Read when testcontainers is imported. Its reaper is an image of its own, and everything here is taken down by name.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")

from testcontainers.compose import DockerCompose

ROOT = Path(__file__).parents[2]
WORKERS = ("watcher", "stream", "embedder", "captioner", "sink", "api")
BASES = ("python:3.11-slim-bookworm", "apache/kafka:4.1.1", "qdrant/qdrant:v1.16.3")
PULL_SECONDS = 600


class Stack:
    """One project of docker-compose.yml with a folder of its own as `pictures`."""

    def __init__(self, folder: Path, project: str) -> None:
        self.project = project
        self.pictures = folder / "pictures"
        self.pictures.mkdir()
        for place in (folder, self.pictures):
            place.chmod(0o755)  # the user of the containers is another one
        environment = folder / "environment"
        # Host port 0 is any free one.
        environment.write_text(f"COMPOSE_PROJECT_NAME={project}\nPIXD_PICTURES={self.pictures}\nPIXD_API_PORT=0\n")
        self.docker = DockerCompose(ROOT, env_file=str(environment))

    def compose(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        """`docker compose ARGUMENTS`, which must end with one of the exit codes; what it prints."""
        command = [*self.docker.docker_compose_command(), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
        assert done.returncode in codes, (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def pixd(self, *arguments: str) -> Any:
        """The JSON document that `pixd ARGUMENTS --json` prints in the container of the API."""
        return json.loads(self.compose("exec", "-T", "api", "pixd", *arguments, "--json"))

    def wait(self) -> dict[str, Any]:
        """Wait until everything has been indexed; the status then."""
        status: dict[str, Any] = self.pixd("status", "--wait-idle", "--timeout", "200")
        return status

    def search(self, text: str) -> list[list[str]]:
        """The path ids of the pictures found over HTTP, nearest first."""
        host, port = self.docker.get_service_host_and_port("api", 8002)
        url = f"http://{host}:{port}/search?{urlencode({'q': text})}"
        with build_opener(ProxyHandler({})).open(url, timeout=60) as answer:
            return [hit["paths"] for hit in json.load(answer)]

    def kill_worker(self, service: str) -> None:
        """SIGKILL to every process in the container of a service but its init, which ends with them."""
        # The shell that does it may be gone before it can say 0.
        self.compose("exec", "-T", service, "bash", "-c", "kill -9 -1", codes=(0, 137))

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows about the containers of a service."""
        ids = self.compose("ps", "--all", "--quiet", service).split()
        found: list[dict[str, Any]] = json.loads(_docker("inspect", *ids).stdout) if ids else []
        return found

    def left(self) -> list[str]:
        """Containers, volumes and networks of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        asked = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return [line for what in asked for line in _docker(*what, "--quiet", "--filter", label).stdout.split()]


def why_not() -> str | None:
    """Why no stack can be started on this machine, or None."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    if _docker("version", "--format", "{{.Server.Version}}").returncode:
        return "no Docker Engine answers"
    if _docker("compose", "version").returncode:
        return "docker has no Compose plugin"
    for image in BASES:
        if _docker("image", "inspect", image).returncode and _docker("pull", "--quiet", image).returncode:
            return f"the image {image} is not here and cannot be pulled"
    return None


def volumes() -> set[str]:
    """Every volume of the engine."""
    return set(_docker("volume", "ls", "--quiet").stdout.split())


def image_bytes() -> int:
    """The size of our image."""
    return int(_docker("image", "inspect", "--format", "{{.Size}}", "pixel-detective").stdout)


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=PULL_SECONDS)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(error.cmd, 1, "", "timed out")
