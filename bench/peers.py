"""Debian's packet filters as peers: the same rules in their own words, in a namespace of their own.

Each function puts rules in force on ``road``'s receiving end; closing the road takes them away. What they
drop is dropped at the earliest place that the tool has: nftables in netdev ingress, iptables in raw
PREROUTING.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from ipaddress import IPv4Address

from filterset import ANY, Filters
from livegen import Road

PACKAGES = {"xdp-filter": "xdp-tools", "nft": "nftables", "iptables-restore": "iptables"}
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah"}


def missing(tool: str) -> str | None:
    """Why there is no such peer; None: there is one."""
    return None if shutil.which(tool) else f"{tool} is not installed (Debian package {PACKAGES[tool]})"


def version(tool: str) -> str:
    if missing(tool):
        return "missing"
    package = PACKAGES[tool]
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
    )
    return f"{package} {found.stdout or 'of unknown version'}"


class XdpFilter:
    """xdp-filter that drops UDP to these destination ports; everything else passes.

    It pins its maps at one place of the host. Here it has a mount namespace with a bpf file system of its
    own, which lasts as long as a process in it.
    """

    def __init__(self, road: Road, ports: list[int]) -> None:
        inside = "mount -t bpf bpf /sys/fs/bpf && echo ready && cat"
        self._holder = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{road.name}", "unshare", "--mount", "sh", "-c", inside],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert self._holder.stdout is not None
            if self._holder.stdout.readline() != b"ready\n":
                raise RuntimeError("xdp-filter: no bpf file system of its own")
            enter = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "xdp-filter")
            road.run(*enter, "load", "--mode", "native", "--policy", "allow", "--features", "udp", road.INTO)
            for port in ports:
                road.run(*enter, "port", str(port), "--proto", "udp", "--mode", "dst")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._holder.communicate()


def nft(road: Road, text: str) -> None:
    road.run("nft", "-f", "-", stdin=text)


def nft_linear(filters: Filters, device: str) -> str:
    """One rule each, all of them drop."""
    rules = [f"    {_nft_rule(filters, at)}" for at in range(len(filters))]
    return _nft_chain(device, "", rules)


def nft_set(filters: Filters, device: str) -> str:
    """One interval set of source . destination . UDP destination port; its elements may not overlap."""
    elements = ", ".join(
        f"{_prefix(filters, at, 0)} . {_prefix(filters, at, 1)} . {filters.ports[at, 1, 0]}"
        for at in range(len(filters))
    )
    head = (
        "  set listed {\n    type ipv4_addr . ipv4_addr . inet_service\n    flags interval\n"
        f"    elements = {{ {elements} }}\n  }}\n"
    )
    return _nft_chain(device, head, ["    ip saddr . ip daddr . udp dport @listed drop"])


def nft_single(device: str) -> str:
    """What it costs to drop anything at all."""
    return _nft_chain(device, "", ["    drop"])


def _nft_chain(device: str, head: str, rules: list[str]) -> str:
    first = f'    type filter hook ingress device "{device}" priority 0; policy accept;'
    return f"table netdev bench {{\n{head}  chain dropping {{\n{first}\n" + "\n".join(rules) + "\n  }\n}\n"


def _nft_rule(filters: Filters, at: int) -> str:
    words = []
    for side, name in enumerate(("saddr", "daddr")):
        if filters.lengths[at, side]:
            words.append(f"ip {name} {_prefix(filters, at, side)}")
    number = int(filters.protocol[at])
    if not words:
        words.append("meta protocol ip")
    if number != ANY:
        words.append(f"meta l4proto {number}")
    asked = [_ports(filters, at, side, "-") for side in (0, 1)]
    if any(asked) and number == ANY:
        words.append("meta l4proto { 6, 17, 132 }")
    if any(asked) and number in (ANY, 6, 17, 132):
        words += [
            f"th {name} {ports}" for name, ports in zip(("sport", "dport"), asked, strict=True) if ports
        ]
    return " ".join([*words, "drop"])


def iptables(road: Road, filters: Filters) -> None:
    """One rule each in raw PREROUTING, all of them drop. A rule for ports of any protocol is one for UDP
    here."""
    rules = [f"-A PREROUTING {_iptables_rule(filters, at)} -j DROP" for at in range(len(filters))]
    text = "*raw\n:PREROUTING ACCEPT [0:0]\n" + "\n".join(rules) + "\nCOMMIT\n"
    road.run("iptables-restore", stdin=text)


def _iptables_rule(filters: Filters, at: int) -> str:
    words = []
    for side, name in enumerate(("-s", "-d")):
        if filters.lengths[at, side]:
            words.append(f"{name} {_prefix(filters, at, side)}")
    asked = [_ports(filters, at, side, ":") for side in (0, 1)]
    number = int(filters.protocol[at])
    if number == ANY and any(asked):
        number = 17
    if number != ANY:
        words.append(f"-p {_NAMES.get(number, number)}")
    if number in (6, 17):
        words += [f"--{name} {ports}" for name, ports in zip(("sport", "dport"), asked, strict=True) if ports]
    return " ".join(words)


def _prefix(filters: Filters, at: int, side: int) -> str:
    return f"{IPv4Address(int(filters.ends[at, side, 1]))}/{filters.lengths[at, side]}"


def _ports(filters: Filters, at: int, side: int, dash: str) -> str:
    first, last = filters.ports[at, side].tolist()
    if (first, last) == (0, 65535):
        return ""
    return str(first) if first == last else f"{first}{dash}{last}"


def attached(road: Road) -> bool:
    """Is an XDP program at the receiving end?"""
    return bool(re.search(r"\bxdp\b", road.run("ip", "link", "show", road.INTO)))
