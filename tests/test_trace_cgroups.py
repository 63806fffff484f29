"""Where a process runs: by its cgroup's id, else by /proc, remembered when the container is gone."""

from __future__ import annotations

from typing import Any

from trace_bytes import ID, SECOND, Host, process, task
from trace_samples import ends, event, record

from xdpguard.trace.cgroups import FRESH, NOWHERE, RETAINED, SIZE, SOON
from xdpguard.trace.model import Filter, ProcessKey
from xdpguard.trace.selection import Selection
from xdpguard.trace.wanted import Wanted

CURL = ProcessKey(4242, 5 * SECOND)
PATH = f"/system.slice/docker-{ID}.scope"


def name(host: Host, now: int, identity: int = 77) -> str | None:
    place = host.cgroups.of(CURL, identity, now)
    return place.container.name if place.container else None


def test_a_cgroup_s_id_gives_path_and_container() -> None:
    host = Host()
    host.container(PATH)
    place = host.cgroups.of(CURL, 77, 0)
    assert place.path == PATH
    assert place.container is not None
    assert (place.container.id, place.container.runtime, place.container.name) == (ID, "docker", "web")


def test_a_container_that_is_gone_is_remembered_for_a_while() -> None:
    host = Host()
    host.container(PATH)
    assert name(host, 0) == "web"
    host.paths.clear()
    host.containers.clear()
    assert name(host, FRESH) == "web"
    assert name(host, RETAINED - 1) == "web"
    assert name(host, RETAINED + SOON) is None


def test_a_container_keeps_its_name_when_its_runtime_has_forgotten_it() -> None:
    host = Host()
    host.container(PATH)
    assert name(host, 0) == "web"
    host.container(PATH, name=None)
    assert name(host, FRESH) == "web"


def test_an_id_that_is_not_known_yet_is_asked_for_soon_again() -> None:
    host = Host()
    assert name(host, 0) is None
    host.container(PATH)
    assert name(host, SOON - 1) is None
    assert name(host, SOON) == "web"


def test_a_container_without_a_name_is_asked_for_soon_again() -> None:
    host = Host()
    host.container(PATH, name=None)
    assert name(host, 0) is None
    host.container(PATH)
    assert name(host, SOON) == "web"


def test_an_unchanged_place_is_the_same_object() -> None:
    host = Host()
    host.container(PATH)
    assert host.cgroups.of(CURL, 77, FRESH) is host.cgroups.of(CURL, 77, 3 * FRESH)


def test_where_ids_tell_nothing_proc_is_asked_and_remembered() -> None:
    host = Host(ids_tell=False)
    host.container(PATH, identity=0)
    host.paths[77] = "/"
    host.proc[4242] = process(4242, 5, cgroup=PATH)
    assert name(host, 0) == "web"
    host.proc.clear()
    assert name(host, FRESH) == "web"


def test_proc_of_a_number_that_was_used_again_is_not_asked() -> None:
    host = Host(ids_tell=False)
    host.container(PATH, identity=0)
    host.proc[4242] = process(4242, 99, cgroup=PATH)
    assert name(host, 0) is None


def test_what_proc_told_of_an_unknown_id_stays_with_the_id() -> None:
    host = Host()
    host.container(PATH)
    host.paths.clear()  # newer than the last walk
    host.proc[4242] = process(4242, 5, cgroup=PATH)
    assert name(host, 0) == "web"
    place = host.cgroups.of(ProcessKey(4243, 6 * SECOND), 77, 1)
    assert place.container is not None


def test_what_proc_told_before_a_process_was_moved_is_not_its_new_cgroup_s() -> None:
    host = Host()
    host.container(PATH)
    host.paths.clear()
    host.cgroups_there["/system.slice/docker.service"] = 76
    host.proc[4242] = process(4242, 5, cgroup="/system.slice/docker.service")
    assert host.cgroups.of(CURL, 76, 0).path == "/system.slice/docker.service"
    assert host.cgroups.of(CURL, 77, 1) == NOWHERE
    host.proc[4242] = process(4242, 5, cgroup=PATH)
    assert host.cgroups.of(CURL, 77, 2, refresh=True).path == PATH


def test_places_are_bounded_and_evictions_counted() -> None:
    host = Host()
    for identity in range(SIZE + 3):
        host.paths[identity] = "/"
        host.cgroups.of_id(identity, 0)
    assert host.cgroups.evicted == 3


def test_a_process_without_a_cgroup_is_nowhere() -> None:
    assert Host().cgroups.of(CURL, None, 0) == NOWHERE


# ---- --container in the kernel ---------------------------------------------------------------------------
def selection(host: Host, **wanted: Any) -> Selection:
    return Selection(Wanted(Filter(**wanted)), host.cgroups)


def test_an_unwanted_cgroup_is_told_once() -> None:
    host = Host()
    host.container(PATH)
    chosen = selection(host, containers=frozenset({"other"}))
    chosen.decide(CURL, 77, 0)
    chosen.decide(CURL, 77, 0)
    assert chosen.news() == [(77, False)]
    assert chosen.news() == []


def test_a_wanted_container_passes_as_it_does_anyway() -> None:
    host = Host()
    host.container(PATH)
    chosen = selection(host, containers=frozenset({"web"}))
    chosen.decide(CURL, 77, 0)
    assert chosen.news() == []


def test_a_container_is_rejected_only_once_it_has_a_name() -> None:
    host = Host()
    host.container(PATH, name=None)
    chosen = selection(host, containers=frozenset({"other"}))
    chosen.decide(CURL, 77, 0)
    assert chosen.news() == []
    host.container(PATH)
    chosen.decide(CURL, 77, SOON)
    assert chosen.news() == [(77, False)]


def test_a_container_whose_first_process_was_seen_elsewhere_before_is_not_rejected() -> None:
    host = Host(Filter(containers=frozenset({"web"})))
    host.container(PATH)
    host.paths.clear()
    host.cgroups_there["/system.slice/docker.service"] = 76
    host.proc[4242] = process(4242, 5, cgroup="/system.slice/docker.service")
    host.session.feed([task("FORK", pid=4242, start_time=5 * SECOND, cgroup=76)])
    host.proc[4242] = process(4242, 5, cgroup=PATH)
    host.session.feed([task("EXEC", pid=4242, start_time=5 * SECOND, cgroup=77)])
    assert host.session.decisions() == [(76, False)]


def test_an_id_that_many_containers_share_is_not_rejected() -> None:
    host = Host(ids_tell=False)
    host.container(PATH, identity=0)
    host.paths[77] = "/"
    host.proc[4242] = process(4242, 5, cgroup=PATH)
    chosen = selection(host, containers=frozenset({"other"}))
    chosen.decide(CURL, 77, 0)
    assert chosen.news() == []


def test_what_runs_already_is_judged_by_a_survey() -> None:
    host = Host()
    host.container(PATH)
    chosen = selection(host, containers=frozenset({ID[:12]}))
    chosen.survey([(1, "/"), (5, "/user.slice"), (77, PATH)], 0)
    chosen.survey([(5, "/user.slice"), (77, PATH)], 0)
    assert chosen.news() == [(5, False)]


def test_with_no_room_the_cgroup_rejected_first_is_let_pass_and_judged_anew() -> None:
    host = Host()
    for identity in (5, 6, 7):
        host.paths[identity] = f"/{identity}.slice"
    chosen = Selection(Wanted(Filter(containers=frozenset({"web"}))), host.cgroups, size=2)
    for identity in (5, 6, 7, 5):
        chosen.decide(CURL, identity, 0)
    assert chosen.news() == [(5, False), (6, False), (5, True), (7, False), (6, True), (5, False)]


def test_without_a_wanted_container_nothing_is_looked_up() -> None:
    host = Host()
    host.container(PATH)
    chosen = selection(host)
    chosen.decide(CURL, 77, 0)
    chosen.survey([(77, PATH)], 0)
    assert chosen.news() == []
    assert Wanted(Filter()).matches(record(event("close", ends("192.0.2.1", 1, "192.0.2.2", 2))))
