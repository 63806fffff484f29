"""The tracepoint programs themselves, run on events that no driver here raises at will. The addresses of real
devices and programs in them are what a small program has caught.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from dataclasses import dataclass

import lab as network
import pytest
from lab import End
from test_delivery_support import AWAY, down, lost, of, other, send, sending, target
from test_lifecycle_support import Site

from xdpguard.kernel import bpf, objects

__all__ = ["other", "target"]  # fixtures
pytestmark = pytest.mark.usefixtures("no_leaks")
_PROG_TEST_RUN, _GET_PID_TGID = 10, 14
XDP_TX, XDP_REDIRECT = 3, 4


def one(opcode: int, registers: int, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", opcode, registers, offset, immediate)


def catcher(counts: int) -> bytes:
    """A program that keeps the first two arguments of an event that this process has caused."""
    return b"".join(
        (
            one(0xBF, 0x16),  # r6 = context
            one(0x85, 0, 0, _GET_PID_TGID),
            one(0x77, 0, 0, 32),  # r0 >>= 32: the process
            one(0x55, 0, 6, os.getpid()),  # if r0 != us goto the end
            one(0x18, 0x22, 0, counts), one(0, 0),  # r2 = the value
            one(0x79, 0x63), one(0x7B, 0x32),  # value[0] = context[0]
            one(0x79, 0x63, 8), one(0x7B, 0x32, 8),
            one(0xB7, 0), one(0x95, 0),  # return 0
        )
    )  # fmt: skip


def caught(event: str, site: Site) -> tuple[int, int]:
    """The addresses that are the first two arguments of an event that redirected frames raise."""
    counts = bpf.map_create(bpf.MAP_ARRAY, 4, 16, 1)
    program = bpf.prog_load(bpf.PROG_RAW_TRACEPOINT, catcher(counts), "catcher").fd
    link = objects.raw_tracepoint_open(event, program)
    deadline = time.monotonic() + network.PATIENCE
    try:
        while True:
            send(site, AWAY, 1)
            first, second = struct.unpack("=QQ", bpf.map_lookup(counts, bytes(4), 16))
            if first:
                return first, second
            assert time.monotonic() < deadline
    finally:
        for fd in (link, program, counts):
            os.close(fd)


def raise_event(site: Site, event: str, *arguments: int) -> None:
    """Run one program of the site's observation as if the event had come."""
    link = objects.obj_get(of(site).folder / event)
    program = objects.prog_by_id(int.from_bytes(objects._info(link, 64)[8:12], "little"))
    context = ctypes.create_string_buffer(b"".join(each.to_bytes(8, "little") for each in arguments))
    attributes = bytearray(80)
    struct.pack_into("=I", attributes, 0, program)
    struct.pack_into("=IIQ", attributes, 40, 8 * len(arguments), 0, ctypes.addressof(context))
    bpf.call(_PROG_TEST_RUN, attributes)
    os.close(program)
    os.close(link)


@dataclass(frozen=True, slots=True)
class Addresses:
    """In the kernel: of the site's device, of its XDP program, of the target's device."""

    device: int
    program: int
    target: int


@pytest.fixture
def addresses(site: Site, target: tuple[End, End]) -> Addresses:
    site.load(sending(target[0].dev), mode="native")
    device, there = caught("xdp_devmap_xmit", site)
    down(target[0])
    same, program = caught("xdp_redirect_err", site)
    assert same == device
    return Addresses(device, program, there)


def grown(site: Site, event: str, *arguments: int) -> tuple[int, int]:
    """What one event adds to (tx, redirect)."""
    before = lost(site)
    raise_event(site, event, *arguments)
    after = lost(site)
    assert None not in before + after
    return (after[0] or 0) - (before[0] or 0), (after[1] or 0) - (before[1] or 0)


def test_an_exception_counts_the_frame_that_our_program_sent_wherever_it_went(
    site: Site, addresses: Addresses
) -> None:
    device, program, there = addresses.device, addresses.program, addresses.target
    assert grown(site, "exception", device, program, XDP_TX) == (1, 0)
    assert grown(site, "exception", there, program, XDP_TX) == (0, 1)  # generic redirect
    assert grown(site, "exception", device, program, XDP_REDIRECT) == (0, 0)  # redirect_err told
    assert grown(site, "exception", device, program, 0) == (0, 0)  # XDP_ABORTED
    for foreign in (0, addresses.device):
        assert grown(site, "exception", device, foreign, XDP_TX) == (0, 0)


def test_a_queue_counts_what_its_driver_did_not_take(site: Site, addresses: Addresses) -> None:
    device, there, failed = addresses.device, addresses.target, (1 << 64) - 6
    assert grown(site, "devmap_xmit", device, there, 11, 5, 0) == (0, 5)
    assert grown(site, "devmap_xmit", device, there, 0, 16, failed) == (0, 16)
    assert grown(site, "devmap_xmit", device, there, 16, 0, 0) == (0, 0)
    assert grown(site, "devmap_xmit", there, device, 0, 16, failed) == (0, 0)
    assert grown(site, "bulk_tx", device, 3, 4, 0) == (4, 0)
    assert grown(site, "bulk_tx", device, 7, 0, 0) == (0, 0)
    assert grown(site, "bulk_tx", there, 0, 7, failed) == (0, 0)


def test_a_failed_redirect_counts_for_the_program_that_asked_for_it(site: Site, addresses: Addresses) -> None:
    rest = (0, 0, 0, 0, 0)
    assert grown(site, "redirect_err", addresses.device, addresses.program, *rest) == (0, 1)
    assert grown(site, "redirect_err", addresses.device, 0, *rest) == (0, 0)


def test_where_a_driver_may_keep_tx_frames_for_later_their_loss_is_not_known(
    site: Site, addresses: Addresses
) -> None:
    program = site.status().xdp_program
    assert program is not None
    of(site).remove()
    of(site).attach(program, exact=False)
    raise_event(site, "bulk_tx", addresses.target, 3, 4, 0)
    assert lost(site) == (0, 0)
    raise_event(site, "bulk_tx", addresses.device, 3, 4, 0)
    assert lost(site) == (None, 0)
