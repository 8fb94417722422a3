"""Hosts as network namespaces: each has its own address, interface and ports; the file system is shared, as on a
cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PORT = 29400


def ip(*words: str) -> str:
    """Run ``ip``; raises OSError with its message if it refuses."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Host:
    """One host: its number, its namespace, and the cable's end in the switch."""

    number: int
    namespace: str
    switch: str
    launched: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"10.77.0.{self.number + 1}"

    def cut(self) -> None:
        """Pull the cable: packets vanish, nobody is told."""
        ip("-n", self.switch, "link", "set", f"port{self.number}", "down")

    def mend(self) -> None:
        ip("-n", self.switch, "link", "set", f"port{self.number}", "up")

    def launch(self, hosts: int, log: Path, local: Path, *words: str, **extra: str) -> subprocess.Popen[bytes]:
        """``launch/multi_node.sh`` on this host, one rank; ``local`` is a folder that only this host sees, empty at
        every launch.
        """
        local.mkdir(exist_ok=True)
        env = {
            **{
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("SLURM_", "PET_", "ESL_", "TORCHELASTIC_")) and k not in ("RANK", "WORLD_SIZE")
            },
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "NPROC": "1",
            "LOCAL_ADDR": self.address,
            "GLOO_SOCKET_IFNAME": "eth0",
            "JOIN_TIMEOUT": "120",
            "ESL_HEAD_SECONDS": "20",
            **extra,
        }
        # ``ip netns exec`` gives the process mounts of its own, so this one is seen nowhere else.
        mounted = ["bash", "-c", 'mount -t tmpfs tmpfs "$0" && exec bash launch/multi_node.sh "$@"', str(local)]
        command = [
            "ip",
            "netns",
            "exec",
            self.namespace,
            *mounted,
            str(self.number),
            str(hosts),
            f"10.77.0.1:{PORT}",
            *words,
        ]
        with open(log, "ab") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.launched.append(process)
        return process

    def power_on(self) -> None:
        """A fresh namespace with its cable in the switch."""
        port = f"port{self.number}"
        ip("netns", "add", self.namespace)
        ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
        ip("-n", self.namespace, "link", "set", "lo", "up")
        ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.namespace, "link", "set", "eth0", "up")

    def power_off(self) -> None:
        """Every process dies, and the namespace with them: what the kernel still had to send is gone too."""
        with suppress(OSError):
            for pid in ip("netns", "pids", self.namespace).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for process in self.launched:
            process.wait()
        with suppress(OSError):
            ip("netns", "del", self.namespace)
        with suppress(OSError):
            ip("-n", self.switch, "link", "del", f"port{self.number}")


def unavailable() -> str:
    """Why there can be no namespaces here; empty where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "several hosts on one machine are network namespaces, which need root on Linux"
    if shutil.which("ip") is None:
        return "several hosts on one machine need the command ip: apt-get install iproute2"
    name = f"esl-try-{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "br0", "type", "bridge")
    except OSError as error:
        return f"this machine refuses network namespaces: {error}"
    finally:
        with suppress(OSError):
            ip("netns", "del", name)
    return ""


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts on one switch; at the end nothing of them is left."""
    tag = f"esl{os.getpid()}"
    switch = f"{tag}-switch"
    made = [Host(number, f"{tag}-host{number}", switch) for number in range(count)]
    try:
        ip("netns", "add", switch)
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        for host in made:
            host.power_on()
        yield made
    finally:
        for host in made:
            host.power_off()
        with suppress(OSError):
            ip("netns", "del", switch)
