"""NVIDIA's Triton server from the wheel nvidia-pytriton, and clients, in an environment of scripts/pipelines.sh."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..layers import ROOT
from .environments import python_of

CLIENT = Path(__file__).parent / "triton_client.py"


class Server(NamedTuple):
    """A server that runs: its addresses by protocol, and what it has written."""

    addresses: dict[str, str]
    log: Path

    def gauge(self) -> int:
        """Sequences that have a tracker, as the model says."""
        with urllib.request.urlopen(f"http://{self.addresses['metrics']}/metrics", timeout=10) as answer:
            found = re.search(r"^spm_sequences\{.*\} (\d+)", answer.read().decode(), re.M)
        return int(found[1]) if found else 0

    def wait_for(self, sequences: int, seconds: float = 30) -> None:
        """Until the model has trackers for so many sequences."""
        end = time.monotonic() + seconds
        while self.gauge() != sequences:
            assert time.monotonic() < end, f"{self.gauge()} sequences, not {sequences}"
            time.sleep(0.05)


@contextlib.contextmanager
def tritonserver(repository: Path, folder: Path, models: Sequence[str]) -> Iterator[Server]:
    """A server with these models of a repository, on free ports of this machine."""
    python = python_of("triton")
    packages = next(python.parent.parent.glob("lib/python*/site-packages"))
    triton = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(triton / "backends" / "python", backend)
    stub = triton / "python_backend_stubs" / sysconfig.get_python_version() / "triton_python_backend_stub"
    shutil.copy(stub, backend)
    program = shutil.copy(triton / "bin" / "tritonserver", folder)
    for file in (program, backend / stub.name):
        os.chmod(file, 0o755)
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    options = [f"--model-repository={repository}", f"--backend-directory={folder / 'backends'}"]
    options += ["--model-control-mode=explicit", *(f"--load-model={name}" for name in models)]
    options += ["--allow-gpu-metrics=false", "--disable-auto-complete-config", "--exit-timeout-secs=5"]
    for name, port in ports.items():
        options += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{packages / 'nvidia_pytriton.libs'}"
    environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "LD_LIBRARY_PATH": libraries}
    log = folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen([program, *options], stdout=file, stderr=file, env={**os.environ, **environment})
    try:
        wait_until_ready(process, addresses["http"], log)
        yield Server(addresses, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses."""
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Until all models are loaded; an AssertionError with the end of the log where the server has ended."""
    end = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/v2/health/ready", timeout=5):
            return
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.1)


def start_client(server: Server, protocol: str, threads: Sequence[Sequence[dict[str, Any]]]) -> subprocess.Popen[str]:
    """A client process that takes steps (see triton_client.py), those of each list in a thread of its own."""
    plan = {"protocol": protocol, "address": server.addresses[protocol], "threads": threads}
    python = str(python_of("triton"))
    return subprocess.Popen(
        [python, str(CLIENT), json.dumps(plan)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def answers(server: Server, protocol: str, *threads: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """What a client got for each step: x, y, width, height, score, found; or the text of an error."""
    out, error = start_client(server, protocol, threads).communicate(timeout=120)
    assert out, error
    result: list[list[Any]] = json.loads(out)
    return result
