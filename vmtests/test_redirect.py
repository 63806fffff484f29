"""Native XDP on virtio-net: client -- filter -- server, and filter -- ids. Frames are where rules send them.

One run sends all cases, each test looks at its own; redirect_cases.py has what is sent and must be seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redirect_run
from packets import mac
from redirect_cases import (
    AT_CLIENT0,
    AT_IDS,
    AT_IDS0,
    CASES,
    CLIENT,
    CLIENT0,
    ENDS,
    KINDS,
    PLACES,
    Case,
    Place,
    without_identification,
)  # fmt: skip
from redirect_run import NOISE, Count, Run
from vmlab.lab import Lab

TOPOLOGY = "redirect"
each_kind = pytest.mark.parametrize("kind", [kind.name for kind in KINDS])


@pytest.fixture(scope="module")
def filtered(lab: Lab) -> Lab:
    """The lab with the rules in force."""
    redirect_run.set_up(lab)
    return lab


@pytest.fixture(scope="module")
def run(filtered: Lab) -> Run:
    """All cases, everything up."""
    return redirect_run.run(filtered, "up", list(CASES.values()))


@pytest.fixture(scope="module")
def run_with_ids_down(filtered: Lab, run: Run) -> Iterator[Run]:
    """What goes to the ids, while the filter's link to it is down. After ``run``, which needs it up."""
    filtered["filter"].check("ip", "link", "set", "ids0", "down")
    cases = [case for case in CASES.values() if case.way.name == "to-ids"]
    ends = [case for case in ENDS if not any(step.place == AT_IDS for step in case.way.steps)]
    yield redirect_run.run(filtered, "down", cases, ends)
    filtered["filter"].check("ip", "link", "set", "ids0", "up")


# ---- where the frames were ------------------------------------------------------------------------------
@each_kind
def test_a_dropped_frame_arrives_at_the_filter_and_nowhere_else(run: Run, kind: str) -> None:
    assert_seen_where_expected(run, CASES[f"drop-{kind}"])


@each_kind
def test_a_passed_frame_is_forwarded_to_the_server(run: Run, kind: str) -> None:
    assert_seen_where_expected(run, CASES[f"pass-{kind}"])


@each_kind
def test_a_ping_is_forwarded_and_its_answer_comes_back_to_the_client(run: Run, kind: str) -> None:
    assert_seen_where_expected(run, CASES[f"ping-{kind}"], without_identification)


@each_kind
def test_a_frame_sent_back_reaches_the_client_alone_with_its_macs_swapped_and_else_unchanged(
    run: Run, kind: str
) -> None:
    assert_seen_where_expected(run, CASES[f"tx-{kind}"])


@each_kind
def test_a_frame_redirected_to_the_servers_link_arrives_there_alone_with_the_new_macs(
    run: Run, kind: str
) -> None:
    assert_seen_where_expected(run, CASES[f"to-server-{kind}"])


@each_kind
def test_a_frame_redirected_to_the_ids_link_arrives_there_alone_with_the_new_macs(
    run: Run, kind: str
) -> None:
    assert_seen_where_expected(run, CASES[f"to-ids-{kind}"])


@each_kind
@pytest.mark.parametrize("way", ["order-tx", "order-drop", "order-to-ids"])
def test_of_several_rules_that_match_the_first_decides(run: Run, way: str, kind: str) -> None:
    assert_seen_where_expected(run, CASES[f"{way}-{kind}"])


@each_kind
def test_a_forwarded_frame_that_egress_drops_arrives_at_the_filter_and_nowhere_else(
    run: Run, kind: str
) -> None:
    assert_seen_where_expected(run, CASES[f"out-drop-{kind}"])


@each_kind
def test_a_forwarded_frame_that_egress_redirects_arrives_at_the_ids_alone_with_the_new_macs(
    run: Run, kind: str
) -> None:
    assert_seen_where_expected(run, CASES[f"out-to-ids-{kind}"])


@each_kind
def test_a_frame_redirected_to_a_link_that_is_down_is_seen_nowhere_else(
    run_with_ids_down: Run, kind: str
) -> None:
    case = CASES[f"to-ids-{kind}"]
    nowhere: dict[Place, list[bytes]] = {place: [] for place in PLACES}
    assert_seen(run_with_ids_down, case, nowhere | {AT_CLIENT0: case.sent(run_with_ids_down.marker)})


# ---- what was counted -----------------------------------------------------------------------------------
def test_both_interfaces_are_filtered_in_native_mode(run: Run) -> None:
    assert run.modes == {"client0": "native", "server0": "native"}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_counted_what_arrived_for_it(run: Run, name: str) -> None:
    assert run.counted["client0", "ingress", "rule", name] == arrived(run, [CASES[name]])


@each_kind
def test_an_egress_rule_counted_what_it_dropped(run: Run, kind: str) -> None:
    case = CASES[f"out-drop-{kind}"]
    assert run.counted["server0", "egress", "rule", case.name] == arrived(run, [case])


@each_kind
def test_an_egress_rule_counted_what_it_redirected(run: Run, kind: str) -> None:
    case = CASES[f"out-to-ids-{kind}"]
    assert run.counted["server0", "egress", "rule", case.name] == total(run.at(AT_IDS0, case))


@each_kind
def test_an_egress_rule_counted_the_answers_to_pings(run: Run, kind: str) -> None:
    answers = from_mac(CLIENT0, run.at(AT_CLIENT0, CASES[f"ping-{kind}"]))
    assert run.counted["client0", "egress", "rule", f"answer-{kind}"] == total(answers)


@pytest.mark.parametrize("action", ["drop", "tx", "redirect"])
def test_an_ingress_action_counted_what_arrived_for_its_rules(run: Run, action: str) -> None:
    cases = [case for case in (*CASES.values(), *ENDS) if action in case.way.action]
    assert run.counted["client0", "ingress", "actions", action] == arrived(run, cases)


def test_the_ingress_action_pass_counted_what_arrived_for_its_rules_and_what_had_no_rule(run: Run) -> None:
    passed = run.counted["client0", "ingress", "actions", "pass"]
    noise = [
        run.counted["client0", "ingress", *which] for which in (("default", ""), ("reasons", "essential"))
    ]
    marked = arrived(run, [case for case in (*CASES.values(), *ENDS) if case.way.action == "pass"])
    assert passed == tuple(map(sum, zip(marked, *noise, strict=True)))


def test_nothing_was_aborted(run: Run) -> None:
    assert run.counted["client0", "ingress", "actions", "aborted"] == (0, 0)


@pytest.mark.parametrize("action", ["drop", "redirect"])
def test_an_egress_action_counted_what_left_for_its_rules(run: Run, action: str) -> None:
    cases = [case for case in (*CASES.values(), *ENDS) if action in case.way.egress]
    seen = arrived(run, cases)  # forwarding leaves the length of a frame as it is
    assert run.counted["server0", "egress", "actions", action] == seen


def test_neighbour_discovery_between_the_frames_was_counted_as_essential(run: Run) -> None:
    assert run.counted["client0", "ingress", "reasons", "essential"][0] >= 2 * NOISE


# ---- verdict and delivery -------------------------------------------------------------------------------
@pytest.mark.parametrize("action", ["tx", "redirect"])
def test_everything_that_was_sent_back_or_redirected_was_delivered_or_not_observed(
    run: Run, action: str
) -> None:
    assert run.lost[action] in (0, None)


@each_kind
def test_a_redirect_to_a_link_that_is_down_counts_as_redirect(run_with_ids_down: Run, kind: str) -> None:
    case = CASES[f"to-ids-{kind}"]
    counted = run_with_ids_down.counted["client0", "ingress", "rule", case.name]
    assert counted == total(case.sent(run_with_ids_down.marker))


def test_the_action_redirect_counts_what_went_to_a_link_that_is_down(run_with_ids_down: Run) -> None:
    cases = [case for case in (*CASES.values(), *ENDS) if "redirect" in case.way.action]
    counted = run_with_ids_down.counted["client0", "ingress", "actions", "redirect"]
    assert counted == arrived(run_with_ids_down, cases)


def test_a_redirect_to_a_link_that_is_down_is_not_delivered_or_not_observed(run_with_ids_down: Run) -> None:
    cases = [case for case in CASES.values() if case.way.name == "to-ids"]
    lost, _ = arrived(run_with_ids_down, cases)
    assert run_with_ids_down.lost["redirect"] in (lost, None)


# ---- comparing ------------------------------------------------------------------------------------------
def assert_seen_where_expected(run: Run, case: Case, same: Callable[[bytes], bytes] = bytes) -> None:
    assert_seen(run, case, case.expected(run.marker), same)


def assert_seen(
    run: Run, case: Case, expected: dict[Place, list[bytes]], same: Callable[[bytes], bytes] = bytes
) -> None:
    """At each place exactly the expected frames, each as often as expected, in any order. ``same`` takes out
    what may differ.
    """
    wrong = []
    for place in PLACES:
        want = Counter(map(same, expected[place]))
        have = Counter(map(same, run.at(place, case)))
        if want != have:
            wrong.append(
                f"{' '.join(place)}: {have.total()} frames, expected {want.total()}; "
                f"missing: {_some(want - have)}; unexpected: {_some(have - want)}"
            )
    assert not wrong, f"{case.name}, {case.frames} frames:\n" + "\n".join(wrong)


def _some(frames: Counter[bytes]) -> str:
    first = next(iter(sorted(frames)), b"")
    return f"{frames.total()}, as {first.hex()}" if frames else "none"


def from_mac(source: str, frames: list[bytes]) -> list[bytes]:
    return [frame for frame in frames if frame[6:12] == mac(source)]


def arrived(run: Run, cases: list[Case]) -> Count:
    """What QEMU saw come to client0 of these cases."""
    return total([frame for case in cases for frame in from_mac(CLIENT, run.at(AT_CLIENT0, case))])


def total(frames: list[bytes]) -> Count:
    return len(frames), sum(map(len, frames))
