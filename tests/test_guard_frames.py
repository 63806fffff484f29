"""The frames of the preflight, byte for byte against the packet builder of the tests."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from packets import BROADCAST, MAC_DST, MAC_SRC, Layer, arp, eth, icmpv6, ipv4, ipv6, mac, tcp

from xdpguard.guard import frames
from xdpguard.guard.frames import End

US4, THEM4 = "192.0.2.1", "198.51.100.7"
US6, THEM6 = "2001:db8::abc:def1", "fe80::1"
US_MAC, THEM_MAC = MAC_SRC, MAC_DST


def end(address: str, hardware: str = "", port: int = 0) -> End:
    return End(mac(hardware), ip_address(address), port)


def advertised(target: str, flags: int, option: int, hardware: str) -> bytes:
    """What follows the first four bytes of a neighbour discovery message (RFC 4861 4.3, 4.4, 4.6.1)."""
    return flags.to_bytes(4, "big") + ip_address(target).packed + bytes([option, 1]) + mac(hardware)


def test_an_arp_request_is_broadcast_and_asks_for_the_address() -> None:
    expected = eth(BROADCAST, US_MAC) / arp(1, sha=US_MAC, spa=US4, tpa=THEM4) / bytes(18)
    assert frames.arp(end(US4, US_MAC), end(THEM4, THEM_MAC), reply=False) == bytes(expected)


def test_an_arp_reply_goes_to_the_one_who_asked() -> None:
    expected = eth(THEM_MAC, US_MAC) / arp(2, sha=US_MAC, spa=US4, tha=THEM_MAC, tpa=THEM4) / bytes(18)
    assert frames.arp(end(US4, US_MAC), end(THEM4, THEM_MAC), reply=True) == bytes(expected)


def test_a_solicitation_goes_to_the_solicited_node_group() -> None:
    body = icmpv6(135, 0, advertised(US6, 0, 1, THEM_MAC), chksum=0)
    expected = eth("33:33:ff:bc:de:f1", THEM_MAC) / ipv6(THEM6, "ff02::1:ffbc:def1", hop_limit=255) / body
    assert frames.neighbour(end(THEM6, THEM_MAC), end(US6, US_MAC), advertise=False) == bytes(expected)


def test_an_advertisement_goes_to_the_one_who_asked() -> None:
    body = icmpv6(136, 0, advertised(US6, 0x60000000, 2, US_MAC), chksum=0)
    expected = eth(THEM_MAC, US_MAC) / ipv6(US6, THEM6, hop_limit=255) / body
    assert frames.neighbour(end(US6, US_MAC), end(THEM6, THEM_MAC), advertise=True) == bytes(expected)


@pytest.mark.parametrize("ethernet", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_a_segment_is_one_of_an_established_connection(version: int, ethernet: bool) -> None:
    us, them = (US4, THEM4) if version == 4 else (US6, THEM6)
    header: Layer = (
        ipv4(us, them, ident=0, df=True, chksum=0) if version == 4 else ipv6(us, them, hop_limit=255)
    )
    packet = header / tcp(22, 50000, "PA", seq=1, ack=1, window=1024, chksum=0) / b"x"
    expected = eth(THEM_MAC, US_MAC) / packet if ethernet else packet
    hardware = (US_MAC, THEM_MAC) if ethernet else ("", "")
    found = frames.segment(end(us, hardware[0], 22), end(them, hardware[1], 50000))
    assert found == bytes(expected)
