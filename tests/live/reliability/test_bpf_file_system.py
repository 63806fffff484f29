"""The bpf file system: pins that are there and cannot be opened are not lost; one that a load mounts."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from interface_state import CLEAN, await_state, state
from test_left_alone import take_off
from test_lifecycle_support import CONSOLE, TOGGLED, Site, dropping, run

from xdpguard.errors import KernelError, PrivilegeError, XdpguardError
from xdpguard.kernel import objects, pins

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, *_ = TOGGLED
PRIVATE = ["unshare", "--mount", "sh", "-ec"]


# --- pins that are there and cannot be opened ---------------------------------------------------------------


def test_on_a_read_only_bpf_file_system_the_pins_are_not_lost(site: Site) -> None:
    path = site.write(dropping(A))
    words = {name: " ".join(site.words(name)) for name in ("load", "status", "stats", "unload")}
    done = run(
        *PRIVATE,
        f"""
        umount -l /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf
        {CONSOLE} {words["load"]} {path}
        mount -o remount,ro /sys/fs/bpf
        {CONSOLE} {words["status"]}
        {CONSOLE} {words["stats"]} > /dev/null
        mount -o remount,rw /sys/fs/bpf
        {CONSOLE} {words["unload"]}
        """,
    )
    assert done.code == 0, (done.out, done.err)
    assert (f"{site.end.dev} (netns {site.end.name}): as loaded" in done.out, "lost" in done.out) == (
        True,
        False,
    )
    await_state(site.end, lambda found: found == CLEAN)


REFUSED: dict[int, tuple[type[XdpguardError], str]] = {
    errno.EMFILE: (KernelError, "cannot read the pins in {folder}: Too many open files (EMFILE); "),
    errno.EACCES: (PrivilegeError, "{folder}/control: Permission denied: needs root"),
}


@pytest.mark.parametrize("number", REFUSED, ids=errno.errorcode.get)
def test_pins_that_cannot_be_opened_are_told_and_not_taken_for_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """They hold what was counted even while someone has taken the programs off."""
    site.load(dropping(A))
    take_off(site)
    before = state(site.end)
    kind, told = REFUSED[number]
    (folder,) = (Path(pin).parent for pin in before.pins if pin.endswith("/control"))

    def refuse(_: Path) -> int:
        raise OSError(number, os.strerror(number))

    commands: list[Callable[[], object]] = [site.status, lambda: site.load(dropping(B)), site.unload]
    for command in commands:
        with monkeypatch.context() as patch:
            patch.setattr(objects, "obj_get", refuse)
            with pytest.raises(kind) as caught:
                command()
        assert told.format(folder=folder) in str(caught.value)
        assert state(site.end) == before


def test_no_room_to_map_a_pinned_page_is_told_and_not_taken_for_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(dropping(A))
    (place,) = [one for one in pins.places() if str(one.folder / "control") in state(site.end).pins]

    def refuse(*_: object, **__: object) -> object:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        patch.setattr("xdpguard.kernel.bpf.map_memory", refuse)
        with pytest.raises(KernelError, match=r"cannot read the pins in .*\(ENOMEM\)$"):
            pins.open_set(place)


def test_what_is_no_pin_in_a_place_of_ours_is_no_set_of_maps() -> None:
    place = pins.Place(1, os.getpid(), 1)
    assert pins.open_set(place) is None
    (place.folder / "control").mkdir(parents=True)
    try:
        assert (pins.open_set(place), pins.map_ids(place)) == (None, set())
    finally:
        (place.folder / "control").rmdir()
        pins.remove(place)
    assert not place.folder.parent.exists()


# --- a bpf file system that is mounted by a load ------------------------------------------------------------

MOUNTED = "mounted the bpf file system on /sys/fs/bpf"
ONLY_HERE = (
    f"{MOUNTED}, in this mount namespace only: the pins are seen nowhere else and are lost with it (verdicts "
    "go on); run mount -t bpf bpf /sys/fs/bpf on the host before, and instead of `ip netns exec` give "
    "--netns NAME"
)
OWN_FIRST = [
    "unshare",
    "--pid",
    "--fork",
    "--mount",
    "--mount-proc",
    "sh",
    "-ec",
]  # a first process of its own
WITHOUT = "umount -l /sys/fs/bpf; "


@pytest.mark.parametrize(
    ("around", "script", "told"),
    [
        (OWN_FIRST, WITHOUT, MOUNTED),
        (OWN_FIRST, f"{WITHOUT} unshare --mount ", ONLY_HERE),
        (OWN_FIRST, f"{WITHOUT} mount --make-rshared /; unshare --mount --propagation unchanged ", MOUNTED),
    ],
    ids=["the first process's", "private beside the first process's", "shared with it"],
)
def test_a_bpf_file_system_that_only_this_mount_namespace_sees_is_told_as_such(
    site: Site, around: list[str], script: str, told: str
) -> None:
    done = run(*around, f'{script} "$@"', "sh", CONSOLE, *site.words("load", site.write(dropping(A))))
    assert done.code == 0, done.err
    assert [line for line in done.err.splitlines() if line.startswith(MOUNTED)] == [told]


def test_a_mount_point_may_have_any_name(site: Site) -> None:
    made = """d=$(printf '%s/\\377\\205 bpf' "$0"); mkdir "$d"; mount -t tmpfs none "$d"; exec "$@" """
    words = site.words("load", site.write(dropping(A)))
    assert run(*PRIVATE, made, site.folder, CONSOLE, *words).code == 0
    assert site.verdicts() == {A}


MOUNTED_MEANWHILE = """
import fcntl, subprocess
def flock(*_):
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
fcntl.flock = flock
from xdpguard.kernel import pins
said = []
pins.ensure_mounted(said.append)
print(said, sum(" - bpf " in line for line in open("/proc/self/mountinfo")))
"""


def test_of_two_commands_that_miss_the_bpf_file_system_one_mounts_it(site: Site) -> None:
    """The other one has waited for it."""
    done = run(*PRIVATE, f'{WITHOUT} exec "$@"', "sh", sys.executable, "-c", MOUNTED_MEANWHILE)
    assert (done.code, done.out) == (0, "[] 1\n"), done.err
