"""The XDP hook by netlink: attach, replace, detach, and what is refused."""

from __future__ import annotations

import lab as network
import pytest
from attached import MODES, Load, frame, id_of, xdp_of
from lab import Veth, inside

from xdpguard.errors import ForeignError, KernelError, NotLoadedError
from xdpguard.kernel import bpf, tc, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("mode", MODES)
def test_a_program_is_attached_replaced_and_detached(veth: Veth, program: Load, mode: str) -> None:
    end, first, second = veth.server, program(bpf.PROG_XDP), program(bpf.PROG_XDP)
    inside(end.name, xdp.attach, end.ifindex, first, mode)
    assert xdp_of(end) == [(mode, id_of(first))]
    inside(end.name, xdp.replace, end.ifindex, second, first, mode)
    assert xdp_of(end) == [(mode, id_of(second))]
    inside(end.name, xdp.detach, end.ifindex, second, mode)
    assert xdp_of(end) == []


@pytest.mark.parametrize("mode", MODES)
def test_an_attached_program_decides_about_frames(veth: Veth, program: Load, mode: str) -> None:
    dropping = program(bpf.PROG_XDP, 1)  # XDP_DROP
    with network.capture(veth.server.name, veth.server.dev) as seen:
        inside(veth.server.name, xdp.attach, veth.server.ifindex, dropping, mode)
        network.send(veth.client.name, veth.client.dev, [frame(veth.client, veth.server, b"dropped")])
        inside(veth.server.name, xdp.detach, veth.server.ifindex, dropping, mode)
        network.send(veth.client.name, veth.client.dev, [frame(veth.client, veth.server, b"passed")])
        assert not any(b"dropped" in data for data in seen.until(b"passed"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("foreign_mode", MODES)
def test_a_foreign_program_is_named_and_stays(
    veth: Veth, program: Load, mode: str, foreign_mode: str
) -> None:
    end, foreign, ours = veth.server, program(bpf.PROG_XDP), program(bpf.PROG_XDP)
    inside(end.name, xdp.attach, end.ifindex, foreign, foreign_mode)
    with pytest.raises(ForeignError, match="nothing changed") as caught:
        inside(end.name, xdp.attach, end.ifindex, ours, mode)
    assert f"another XDP program (id {id_of(foreign)}, {foreign_mode}) is attached to {end.dev}" in str(
        caught.value
    )
    assert xdp_of(end) == [(foreign_mode, id_of(foreign))]


@pytest.mark.parametrize("mode", MODES)
def test_replace_and_detach_refuse_when_another_program_is_there(
    veth: Veth, program: Load, mode: str
) -> None:
    end, foreign, ours, new = veth.server, *(program(bpf.PROG_XDP) for _ in range(3))
    inside(end.name, xdp.attach, end.ifindex, foreign, mode)
    named = rf"{end.dev} has another XDP program \(id {id_of(foreign)}, {mode}\)"
    with pytest.raises(ForeignError, match=named):
        inside(end.name, xdp.replace, end.ifindex, new, ours, mode)
    with pytest.raises(ForeignError, match=named):
        inside(end.name, xdp.detach, end.ifindex, ours, mode)
    assert xdp_of(end) == [(mode, id_of(foreign))]


@pytest.mark.parametrize("mode", MODES)
def test_replace_and_detach_refuse_when_our_program_is_gone(veth: Veth, program: Load, mode: str) -> None:
    end, ours, new = veth.server, program(bpf.PROG_XDP), program(bpf.PROG_XDP)
    with pytest.raises(ForeignError, match=f"no longer on {end.dev}"):
        inside(end.name, xdp.replace, end.ifindex, new, ours, mode)
    with pytest.raises(ForeignError, match=f"no longer on {end.dev}"):
        inside(end.name, xdp.detach, end.ifindex, ours, mode)
    assert xdp_of(end) == []


@pytest.mark.parametrize("veth", [{"mtu": 9000}], indirect=True)
def test_an_mtu_beyond_the_driver_limit_needs_a_program_with_frags(veth: Veth, program: Load) -> None:
    end = veth.server
    with pytest.raises(KernelError, match=f"{end.dev} .MTU 9000.: .*MTU is too large .*nothing changed"):
        inside(end.name, xdp.attach, end.ifindex, program(bpf.PROG_XDP), "native")
    assert xdp_of(end) == []
    with_frags = program(bpf.PROG_XDP, flags=bpf.F_XDP_HAS_FRAGS)
    inside(end.name, xdp.attach, end.ifindex, with_frags, "native")
    assert xdp_of(end) == [("native", id_of(with_frags))]


def test_a_refusal_carries_the_words_of_the_kernel(veth: Veth, program: Load) -> None:
    wrong_type = program(bpf.PROG_SCHED_CLS)
    with pytest.raises(KernelError, match=rf"attach a native XDP program to {veth.server.dev} .*\(EINVAL\)"):
        inside(veth.server.name, xdp.attach, veth.server.ifindex, wrong_type, "native")


def test_attaching_to_a_vanished_interface_says_so(veth: Veth, program: Load) -> None:
    network.run(veth.server.name, "ip", "link", "del", veth.server.dev)
    with pytest.raises(NotLoadedError, match=f"index {veth.server.ifindex}.* vanished"):
        inside(veth.server.name, xdp.attach, veth.server.ifindex, program(bpf.PROG_XDP), "native")
    with pytest.raises(NotLoadedError, match="no such interface"):
        xdp_of(veth.server)
    with pytest.raises(NotLoadedError, match=f"index {veth.server.ifindex}.* vanished"):
        inside(veth.server.name, tc.add_clsact, veth.server.ifindex)
