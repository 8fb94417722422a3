"""Who listens where, from the kernel: the addresses of a process' listening TCP sockets."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from pathlib import Path

LISTEN = "0A"


def listening(pid: int) -> list[str]:
    """``address:port`` of every TCP socket that a process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
            inodes |= {found[1]} if found else set()
    places = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == LISTEN and words[9] in inodes:
                address, port = words[1].split(":")
                places.append(f"{_address(address)}:{int(port, 16)}")
    return places


def outside(places: list[str]) -> list[str]:
    """Those that another machine could reach."""
    return [place for place in places if not _is_loopback(ipaddress.ip_address(place.rpartition(":")[0]))]


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for listing in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(word) for word in listing.read_text().split()]
    return found


def _address(text: str) -> str:
    """The kernel writes addresses as 32-bit words in the machine's own order."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
