"""The TC egress hook by netlink: clsact, our filter in it, and what is refused."""

from __future__ import annotations

import lab as network
import pytest
from attached import Load, filters_of, frame, id_of
from lab import Lab, Veth, inside

from xdpguard.errors import ForeignError, KernelError
from xdpguard.kernel import bpf, tc

pytestmark = pytest.mark.usefixtures("no_leaks")

U32 = ("protocol", "ip", "u32", "match", "u32", "0", "0", "flowid", "1:1")  # a filter that any kernel has


def test_a_filter_is_added_replaced_and_removed(veth: Veth, program: Load) -> None:
    end, first, second = veth.server, program(bpf.PROG_SCHED_CLS), program(bpf.PROG_SCHED_CLS)
    assert inside(end.name, tc.add_clsact, end.ifindex)
    inside(end.name, tc.add, end.ifindex, first, "one")
    place = (tc.HANDLE, tc.PRIORITY, 3, 0)
    assert filters_of(end) == [tc.Filter("bpf", *place, id_of(first), "one", True)]
    inside(end.name, tc.replace, end.ifindex, second, "two", id_of(first))
    assert filters_of(end) == [tc.Filter("bpf", *place, id_of(second), "two", True)]
    inside(end.name, tc.remove, end.ifindex, id_of(second))
    assert filters_of(end) == []
    assert inside(end.name, tc.remove_clsact_if_empty, end.ifindex)
    assert "clsact" not in network.run(end.name, "tc", "qdisc", "show").stdout


def test_the_filter_decides_about_frames(veth: Veth, program: Load) -> None:
    end, shot = veth.client, 2  # TC_ACT_SHOT
    dropping = program(bpf.PROG_SCHED_CLS, shot)
    inside(end.name, tc.add_clsact, end.ifindex)
    with network.capture(veth.server.name, veth.server.dev) as seen:
        inside(end.name, tc.add, end.ifindex, dropping, "drop")
        assert network.send(end.name, end.dev, [frame(end, veth.server, b"dropped")]) == 0
        inside(end.name, tc.remove, end.ifindex, id_of(dropping))
        assert network.send(end.name, end.dev, [frame(end, veth.server, b"passed")]) == 1
        assert not any(b"dropped" in data for data in seen.until(b"passed"))


def test_adding_clsact_a_second_time_is_no_addition(veth: Veth) -> None:
    end = veth.server
    assert inside(end.name, tc.add_clsact, end.ifindex)
    assert not inside(end.name, tc.add_clsact, end.ifindex)


def test_an_ingress_qdisc_in_the_place_of_clsact_is_named_and_stays(veth: Veth) -> None:
    end = veth.server
    network.run(end.name, "tc", "qdisc", "add", "dev", end.dev, "ingress")
    with pytest.raises(ForeignError, match=f"clsact to {end.dev}: a qdisc of kind ingress"):
        inside(end.name, tc.add_clsact, end.ifindex)
    assert not inside(end.name, tc.remove_clsact_if_empty, end.ifindex)
    assert "ingress" in network.run(end.name, "tc", "qdisc", "show", "dev", end.dev).stdout


@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_clsact_stays_while_someone_has_a_filter_on_it(veth: Veth, hook: str) -> None:
    end = veth.server
    inside(end.name, tc.add_clsact, end.ifindex)
    network.run(end.name, "tc", "filter", "add", "dev", end.dev, hook, *U32)
    assert not inside(end.name, tc.remove_clsact_if_empty, end.ifindex)
    assert "clsact" in network.run(end.name, "tc", "qdisc", "show").stdout
    network.run(end.name, "tc", "filter", "del", "dev", end.dev, hook)
    assert inside(end.name, tc.remove_clsact_if_empty, end.ifindex)


def test_removing_a_clsact_that_is_not_there_does_nothing(lab: Lab, veth: Veth) -> None:
    other = lab.veth(client=veth.server.name).client
    inside(other.name, tc.add_clsact, other.ifindex)
    assert not inside(veth.server.name, tc.remove_clsact_if_empty, veth.server.ifindex)
    assert "clsact" in network.run(other.name, "tc", "qdisc", "show", "dev", other.dev).stdout


def test_a_bpf_filter_in_our_place_is_named_and_stays(veth: Veth, program: Load) -> None:
    end, foreign, ours = veth.server, program(bpf.PROG_SCHED_CLS), program(bpf.PROG_SCHED_CLS)
    inside(end.name, tc.add_clsact, end.ifindex)
    inside(end.name, tc.add, end.ifindex, foreign, "theirs")
    named = f"program id {id_of(foreign)}, name theirs"
    with pytest.raises(ForeignError, match=named):
        inside(end.name, tc.add, end.ifindex, ours, "ours")
    with pytest.raises(ForeignError, match=named):
        inside(end.name, tc.replace, end.ifindex, ours, "ours", id_of(ours))
    with pytest.raises(ForeignError, match=named):
        inside(end.name, tc.remove, end.ifindex, id_of(ours))
    assert [entry.program for entry in filters_of(end)] == [id_of(foreign)]


def test_another_kind_of_filter_at_our_priority_is_named_and_stays(veth: Veth, program: Load) -> None:
    end = veth.server
    inside(end.name, tc.add_clsact, end.ifindex)
    place = ["filter", "add", "dev", end.dev, "egress", "prio", str(tc.PRIORITY)]
    network.run(end.name, "tc", *place, *U32)
    with pytest.raises(ForeignError, match="kind u32"):
        inside(end.name, tc.add, end.ifindex, program(bpf.PROG_SCHED_CLS), "ours")
    assert {entry.kind for entry in filters_of(end)} == {"u32"}


def test_replace_and_remove_refuse_when_our_filter_is_gone(veth: Veth, program: Load) -> None:
    end, ours = veth.server, program(bpf.PROG_SCHED_CLS)
    with pytest.raises(ForeignError, match="no longer attached"):
        inside(end.name, tc.replace, end.ifindex, ours, "ours", id_of(ours))
    with pytest.raises(ForeignError, match="no longer attached"):
        inside(end.name, tc.remove, end.ifindex, id_of(ours))


def test_a_filter_added_without_a_priority_comes_after_ours(veth: Veth, program: Load) -> None:
    end, ours = veth.server, program(bpf.PROG_SCHED_CLS)
    inside(end.name, tc.add_clsact, end.ifindex)
    inside(end.name, tc.add, end.ifindex, ours, "ours")
    for _ in range(2):
        network.run(end.name, "tc", "filter", "add", "dev", end.dev, "egress", *U32)
    first, *others = filters_of(end)
    assert (first.kind, {entry.kind for entry in others}) == ("bpf", {"u32"})
    assert {entry.priority for entry in others} == {49151, 49152}


def test_adding_a_filter_without_clsact_gives_the_words_of_the_kernel(veth: Veth, program: Load) -> None:
    with pytest.raises(KernelError, match=r"Parent Qdisc .*\(EINVAL\)"):
        inside(veth.server.name, tc.add, veth.server.ifindex, program(bpf.PROG_SCHED_CLS), "ours")
