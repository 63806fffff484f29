"""One interface of a load, up to but not including the store that makes it live.

Order: look, refuse, repair, fill a slot, preflight, attach. What must never break: until ``commit``
every packet gets the verdict it got before, and ``abandon`` leaves the host as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from xdpguard.abi import abi
from xdpguard.classify.tables import Tables, Target
from xdpguard.errors import NotLoadedError, UsageError, XdpguardError
from xdpguard.generation import slots
from xdpguard.generation.compiled import Compiled
from xdpguard.guard import accounting, attach, confirmed, observe, preflight, programs, repair, targets
from xdpguard.guard.chosen import explained, reason, restated
from xdpguard.guard.records import Record
from xdpguard.kernel import features, maps, objects, pins
from xdpguard.kernel.discover import Found
from xdpguard.kernel.maps import ACCOUNTS, MapSet, Word
from xdpguard.kernel.sizes import Size

Say = Callable[[str], None]
_NUMBERS = abi().numbers


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for."""

    rules: Compiled
    mode: str  # auto | native | generic
    netns: str | None  # name
    confirm: int | None  # seconds
    force: bool
    verbose: bool
    say: Say
    account_owners: bool | None = None  # None: as it is in force

    @property
    def file(self) -> str:
        return self.rules.outline.file

    def deadline_ms(self) -> int:
        """For what is put in force now: when it is to be confirmed, of CLOCK_BOOTTIME; 0: it need not be."""
        return slots.boot_ms() + self.confirm * 1000 if self.confirm else 0


@dataclass(slots=True)
class Staged:
    """A filled slot, judged, behind attached programs. ``steps.undo`` takes it all back."""

    found: Found
    request: Request
    check: Callable[[], None]  # raises Interrupted; called where every step so far can be taken back
    steps: attach.Steps = field(default_factory=attach.Steps)
    target: MapSet | None = None
    slot: int = 0
    serial: int = 0
    mode: str = ""
    word: Word | None = None
    former_targets: dict[str, int] = field(default_factory=dict)
    created: bool = False
    replacing: bool = False  # the programs, not only the data
    unkept: str = ""  # why `restore` will not know these rules

    def prepare(self) -> None:
        """See that redirects can be delivered, once every interface has its programs: any may be a target."""
        link, request = self.found.link, self.request
        with explained(f"{link.name}: load {request.file}", "nothing changed"):
            for ifindex in targets.prepare(request.rules.outline, link, self.mode, request.say):
                self.steps.undo.callback(targets.remove_helper, ifindex)
            self._keep()

    def _keep(self) -> None:
        """For ``restore``, before it is live. What comes back is still what was confirmed before."""
        if self.target is None:
            raise AssertionError("prepare before stage")
        rules, owners = self.request.rules, ACCOUNTS in self.target.fds
        record = Record(self.mode, owners, self.request.force, rules.files)
        self.unkept, undo = confirmed.store(self.found, self.target, self.slot, record)
        self.steps.undo.callback(undo)

    def commit(self) -> None:
        """Make it live: one store. The time to confirm begins here."""
        if self.target is None or self.word is None:
            raise AssertionError("commit before stage")
        self.target.interface = self.found.link.name
        slots.choose(self.target, Word(self.word.active, self.word.previous, self.request.deadline_ms()))

    def abandon(self) -> bool:
        """Take every step back. The error that is on its way says why; here is said what stays behind.

        False: something does, so that error must not say that nothing changed (``left_behind``).
        """
        try:
            with self.steps.keep:
                self.steps.undo.close()
        except NotLoadedError:
            pass  # the interface is gone, and with it all that was attached
        except (XdpguardError, OSError) as error:
            name = self.found.link.name
            self.request.say(f"warning: {name}: not all could be undone: {reason(error)}")
            return False
        return True

    def finish(self) -> None:
        """After every interface is live: take over old counts, drop what nothing uses."""
        self.steps.undo.pop_all()
        with self.steps.keep:
            if self.target is not None:
                confirmed.note(self.found, self.target, self.request.say, unkept=self.unkept)
            self._finish()

    def _finish(self) -> None:
        if self.target is None:
            return
        if self.created:
            former = self.found.current
            if former is not None:
                if former.current_abi:
                    slots.absorb(self.target, former)
                pins.remove(self.found.place(former))
        accounting.tidy(self.found, self.target)
        targets.tidy(self.target, self.former_targets, self.request.say)


def stage(found: Found, request: Request, check: Callable[[], None]) -> Staged:
    """Everything but the store. On any failure the host is as before."""
    staged = Staged(found, request, check)
    try:
        with explained(f"{found.link.name}: load {request.file}", "nothing changed"):
            attach.refuse_foreign(found)
            _check_mode(found, request)
            repair.repair(found, request.say)
            _stage(staged)
    except BaseException as error:
        left_behind([staged], error)
        raise
    return staged


def left_behind(staged: list[Staged], error: BaseException) -> None:
    """Take all of these back. Raises the error with another state of the host if that was not possible."""
    whole = [one.abandon() for one in reversed(staged)]
    if isinstance(error, XdpguardError) and not all(whole):
        raise restated(error, "not all could be undone: `xdpguard status` tells what is left") from error


def _check_mode(found: Found, request: Request) -> None:
    present = found.xdp or found.helper
    if present is not None and request.mode not in ("auto", present.mode):
        what = "is loaded" if found.xdp is not None else "has our pass-only program"
        raise UsageError(
            f"{found.link.name} {what} in {present.mode} mode, and the kernel cannot switch to "
            f"{request.mode} without a gap: unload first; nothing changed"
        )


def _stage(staged: Staged) -> None:
    found, request = staged.found, staged.request
    resolved = targets.resolve(request.rules.outline, found.link)
    current = found.current if found.current is not None and found.current.current_abi else None
    staged.former_targets = targets.used(found.current) if found.current is not None else {}
    staged.serial = slots.take_serial(current) if current is not None else 2
    tables, names = _finished(request.rules, staged.serial, resolved)
    if request.verbose:
        for line in tables.summary:
            request.say(f"{found.link.name}: {line}")
    staged.check()
    size = slots.size_for(tables, names)
    if current is not None and current.size.holds(size) and not found.moved:
        staged.target = current
    else:
        staged.target = _create(staged, current, size)
    target = staged.target
    staged.replacing = accounting.arrange(found, target, request.account_owners, staged.steps)
    word = target.word
    staged.slot = slots.free_slot(word)
    slots.fold(target, staged.slot)
    staged.steps.undo.callback(slots.clear, target, staged.slot)
    slots.write(target, staged.slot, tables.blob)
    staged.check()
    _judge(staged, target)
    staged.check()
    if found.current is not None and current is None:
        # What another version loaded cannot be carried over; with this there is no gap between the two. A
        # kill before ``commit`` must not leave rules in force for ever that nobody has confirmed.
        target.word = Word(staged.slot, slots.BUILTIN, request.deadline_ms())
    _attach(staged, target, resolved)
    # A load over one that nobody confirmed goes back to the last confirmed rules, not to those.
    previous = word.previous if word.deadline_ms else word.active
    staged.word = Word(staged.slot, previous)


def _finished(rules: Compiled, serial: int, resolved: dict[str, Target]) -> tuple[Tables, bytes]:
    """The bytes of a generation, and the names among them."""
    indexes = {name: target.ifindex for name, target in resolved.items()}
    names = rules.outline.named(time.time(), indexes)
    return rules.draft.finish(rules.outline.file, serial, resolved, names), names


def _create(staged: Staged, current: MapSet | None, size: Size) -> MapSet:
    """New maps: for a first load, or for tables that the present ones cannot hold."""
    found = staged.found
    flags = _NUMBERS["XG_FLAG_L3_DEVICE"] if found.link.is_l3 else 0
    if found.current is not None:
        flags |= found.current.get("flags") & _NUMBERS["XG_FLAG_CLSACT_OURS"]
    fields = {"ifindex": found.link.ifindex, "netns_cookie": found.identity.cookie, "flags": flags}
    if current is not None:
        size = size.joined(current.size)
        fields |= {name: current.get(name) for name in ("flags", "next_serial", "word")}
        fields["predecessor"] = current.get("epoch")
    target = maps.create(size, fields)
    staged.steps.keep.callback(target.close)
    staged.created = True
    if current is None:
        slots.write_builtin(target)
        target.put("next_serial", 3)
    else:
        for slot in {slots.BUILTIN, current.word.active, current.word.previous}:
            slots.write(target, slot, slots.blob_bytes(current, slot))
        if not found.moved:  # the interfaces that the rules in force mean are of the other namespace
            targets.allow(target, targets.still_there(current))
    return target


def _judge(staged: Staged, target: MapSet) -> None:
    found, request = staged.found, staged.request
    judge = preflight.run(
        target,
        staged.slot,
        found.link,
        request.rules.outline,
        force=request.force,
        say=request.say,
        statistics=request.verbose,
    )
    staged.steps.keep.callback(judge.close)
    staged.replacing |= staged.created or not _running(found, judge)
    if request.verbose:
        request.say(f"{found.link.name}: {judge.describe()}")


def _attach(staged: Staged, target: MapSet, resolved: dict[str, Target]) -> None:
    found, request = staged.found, staged.request
    entered = targets.allow(target, (each.ifindex for each in resolved.values()))
    staged.steps.undo.callback(targets.withdraw, target, entered)
    if staged.replacing:
        loaded = programs.load(target)
        staged.steps.keep.callback(loaded.close)
        if staged.created:
            staged.steps.undo.callback(pins.remove, found.place(target))
        pins.pin(found.place(target), target)
        if staged.created and found.current is not None and found.current.current_abi:
            # Runs when the former programs are back: what these maps have counted meanwhile stays.
            staged.steps.undo.callback(slots.absorb, found.current, target)
        staged.mode = attach.put(found, target, loaded, _mode(staged), staged.steps, request.say)
    else:
        staged.mode = found.xdp.mode if found.xdp else ""
    if observe.start(found, request.rules.outline, target.get("xdp_program"), staged.mode, request.say):
        staged.steps.undo.callback(found.delivery.remove)
    _warn_offload(staged)


def _mode(staged: Staged) -> str:
    """The mode in force stays, also when someone took our XDP program off."""
    current, wanted = staged.found.current, staged.request.mode
    known = attach.mode_name(current.get("mode")) if current is not None else "none"
    return known if wanted == "auto" and known != "none" else wanted


def _running(found: Found, judge: programs.Programs) -> bool:
    """Are both programs attached, and the same code as we would load?"""
    if found.xdp is None or found.filter is None or found.filter.program is None:
        return False
    pairs = ((found.xdp.program, judge.ingress), (found.filter.program, judge.egress))
    return all(
        objects.prog_info_by_id(number).tag == objects.prog_info(loaded.fd).tag for number, loaded in pairs
    )


def _warn_offload(staged: Staged) -> None:
    request, name = staged.request, staged.found.link.name
    vlan = request.rules.outline.vlan
    if vlan and features.rx_vlan_offload(name):
        request.say(
            f"warning: {name} takes VLAN tags out of frames before XDP sees them: rule {vlan} "
            f"and others with vlan may not match (ethtool -K {name} rxvlan off)"
        )
