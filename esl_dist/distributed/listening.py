"""Who may reach the process group: this host alone, or the peers of the address that was named.

torch's stores listen on every interface, and nobody who connects is asked who he is. torchrun's own rendezvous
unpickles what lies in its store: whoever reaches that port runs code. So every store of this package listens on one
address, and the traffic of a single host keeps to the loopback. What is left between hosts,
docs/explanation/security.md says.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from typing import Any

from torch._C._distributed_c10d import TCPStore

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


def told(name: str, least: int) -> int:
    """What a launcher says of ranks in an environment variable; ``least`` where it says nothing.

    Raises:
        ValueError: no number, or a smaller one.
    """
    text = os.environ.get(name, str(least))
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"{name}={text!r} in the environment is no number of a rank or of ranks; a launcher sets it")
    return int(text)


def one_host() -> bool:
    """Whether all ranks run on this machine, as the launcher says."""
    return os.environ.get("LOCAL_WORLD_SIZE", "") == os.environ.get("WORLD_SIZE", "1")


def keep_to_loopback() -> None:
    """Ranks of one host talk over the loopback, whatever the host's name resolves to; an interface that the user named
    stays.
    """
    if one_host() and any(name == "lo" for _, name in socket.if_nameindex()):
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, "lo")


def listen(host: str, port: int) -> socket.socket | None:
    """A socket that listens on an address of ``host`` alone (port 0: a free one); None where none of its addresses is
    this machine's.
    """
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return socket.create_server((address[0], port), family=family, backlog=2048)
        except OSError:
            continue
    return None


def bound_store(
    host_name: str, port: int, world_size: int | None = None, is_master: bool = False, *further: Any, **options: Any
) -> TCPStore:
    """``TCPStore`` with the same arguments, whose server listens on ``host_name`` only.

    A loopback name with peers on other hosts, or a name that is none of this machine's (a load balancer's), cannot be
    kept to: the store then listens everywhere, as torch's does, and a line says so.
    """
    if not is_master or options.get("master_listen_fd") is not None:
        return TCPStore(host_name, port, world_size, is_master, *further, **options)
    bound = listen(host_name, port)
    if bound is not None and (
        one_host()
        or "LOCAL_WORLD_SIZE" not in os.environ
        or not ipaddress.ip_address(bound.getsockname()[0]).is_loopback
    ):
        port = bound.getsockname()[1]
        return TCPStore(
            host_name, port, world_size, is_master, *further, **{**options, "master_listen_fd": bound.detach()}
        )
    if bound is not None:
        bound.close()
    log.warning(
        "the store of the process group listens on all interfaces: %s is no address of this machine that others reach;"
        " see docs/explanation/security.md",
        host_name,
    )
    return TCPStore(host_name, port, world_size, is_master, *further, **options)
