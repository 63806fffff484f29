"""Programs of a tracing session, loaded and attached as kernel/sources.py says.

Owns their fds: closing them detaches and frees everything.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from xdpguard.errors import KernelError, PrivilegeError
from xdpguard.kernel import bpf, compile, objects, probes, processes, program
from xdpguard.kernel.sources import WAYS, Choice, Probe, Way
from xdpguard.kernel.tracefs import Tracefs, Tracepoint

_KINDS = {
    "kprobe": bpf.PROG_KPROBE,
    "kretprobe": bpf.PROG_KPROBE,
    "tracepoint": bpf.PROG_TRACEPOINT,
    "raw tracepoint": bpf.PROG_RAW_TRACEPOINT,
}
_NOT_THERE = (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV, errno.EILSEQ, errno.EADDRNOTAVAIL)


class Attached:
    """``instructions``: program -> the verifier's count, where ``statistics`` were asked for."""

    def __init__(
        self,
        maps: Mapping[str, int],
        numbers: Mapping[str, int],
        definitions: tuple[str, ...],
        *,
        statistics: bool = False,
    ) -> None:
        self.sources: dict[str, str] = {}
        self.missing: list[str] = []
        self.instructions: dict[str, int | None] = {}
        self._stack = ExitStack()
        self._maps, self._numbers, self._statistics = maps, numbers, statistics
        self._syscalls, self._no_syscalls = _system_calls()
        self._definitions = definitions + _layout(self._syscalls)
        self._code: dict[compile.Source, bytes] = {}
        self._loaded: dict[tuple[str, int], int] = {}

    def attach(self, ways: Iterable[Way], *, kprobes: bool) -> None:
        """Raises KernelError or PrivilegeError; then ``close``."""
        ways = tuple(ways)
        self._code = compile.bytecode_by_child(
            {source: None for way in ways for source in self.wanted(way, kprobes=kprobes)}
        )
        for way in ways:
            self._take(way, kprobes)
        if self._no_syscalls and any(map(_asks_system_calls, ways)):
            self.missing.append(self._no_syscalls)

    def wanted(self, way: Way, *, kprobes: bool) -> Iterable[compile.Source]:
        """What must be compiled for a way: the programs of all of its choices."""
        probes = (probe for choice in way.choices(kprobes) for probe in choice.probes)
        return (self._source(probe) for probe in probes if self._can_be(probe))

    def _can_be(self, probe: Probe) -> bool:
        return probe.how != "tracepoint" or bool(self._syscalls)

    def _take(self, way: Way, kprobes: bool) -> None:
        reason = "it has none of the probes that tell of it"
        for choice in way.choices(kprobes):
            try:
                self._attach_choice(choice)
            except OSError as error:
                if error.errno == errno.EPERM or error.errno == errno.EACCES:
                    raise PrivilegeError(
                        f"trace {way.events[0]}: {error.filename}: not permitted: needs root "
                        "(CAP_BPF, CAP_PERFMON) and no kernel lockdown; nothing changed"
                    ) from error
                if error.errno not in _NOT_THERE:
                    raise KernelError(
                        f"trace {way.events[0]}: {error.filename}: {error.strerror}; nothing changed"
                    ) from error
                reason = f"{error.filename}: {error.strerror}"
                continue
            self._note(way, choice)
            return
        if way.essential:
            raise KernelError(f"trace {way.events[0]}: this kernel does not tell: {reason}; nothing changed")

    def _note(self, way: Way, choice: Choice) -> None:
        if choice.missing:
            self.missing.append(choice.missing)
        text = ", ".join(map(str, choice.probes))
        for event in way.events:
            if text:
                self.sources[event] = f"{self.sources[event]}, {text}" if event in self.sources else text

    def _attach_choice(self, choice: Choice) -> None:
        """All of its probes or none. OSError names the probe as its file."""
        with ExitStack() as done:
            for probe in choice.probes:
                try:
                    done.callback(os.close, self._attach_probe(probe))
                except OSError as error:
                    error.filename = str(probe)
                    raise
            self._stack.push(done.pop_all())

    def _attach_probe(self, probe: Probe) -> int:
        if not self._can_be(probe):
            raise OSError(errno.ENOENT, "no tracefs")
        loaded = self._program(probe)
        if probe.how == "raw tracepoint":
            return objects.raw_tracepoint_open(probe.target, loaded)
        if probe.how == "tracepoint":
            found = self._syscalls.get(probe.target)
            if found is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            return probes.tracepoint(found.id, loaded)
        return probes.kprobe(probe.target, loaded, at_return=probe.how == "kretprobe")

    def _program(self, probe: Probe) -> int:
        """Loaded once, however many probes run it."""
        kind = _KINDS[probe.how]
        fd = self._loaded.get((probe.function, kind))
        if fd is None:
            source = self._source(probe)
            loaded = program.load_code(
                self._code[source], source, kind, self._maps, self._numbers, statistics=self._statistics
            )
            fd = self._loaded[probe.function, kind] = loaded.fd
            self._stack.callback(os.close, fd)
            self.instructions[probe.function] = loaded.instructions
        return fd

    def _source(self, probe: Probe) -> compile.Source:
        return compile.Source(probe.file, probe.function, self._definitions)

    def runs(self) -> Iterable[objects.RunInfo]:
        """Of every program. Its name in the kernel is cut at 15 bytes: here it is whole."""
        for (function, _), fd in self._loaded.items():
            info = objects.run_info(fd)
            yield objects.RunInfo(function, info.run_ns, info.runs, info.missed)

    def close(self) -> None:
        """A second call does nothing."""
        self._stack.close()
        self._loaded = {}


def _tracepoints(way: Way) -> Iterable[str]:
    probes = (probe for choice in (*way.kprobes, *way.tracepoints) for probe in choice.probes)
    return (probe.target for probe in probes if probe.how == "tracepoint")


def _asks_system_calls(way: Way) -> bool:
    return any(_tracepoints(way))


def _system_calls() -> tuple[dict[str, Tracepoint], str]:
    """The tracepoints of system calls that some way asks for and this kernel has; why there is none."""
    targets = {target for way in WAYS for target in _tracepoints(way)}
    found = {}
    try:
        with Tracefs() as tracefs:
            for target in sorted(targets):
                try:
                    found[target] = tracefs.tracepoint(target)
                except FileNotFoundError:
                    continue
    except OSError as error:
        why = f"tracefs cannot be had ({error.strerror}): no tracepoints of system calls"
        lacking = processes.lacking("CAP_SYS_ADMIN") if isinstance(error, PermissionError) else ()
        return {}, f"{why} (lacking CAP_SYS_ADMIN)" if lacking else why
    return found, ""


def _layout(found: Mapping[str, Tracepoint]) -> tuple[str, ...]:
    """Where these tracepoints' programs find what they are given; the same for all of a direction."""
    places = {}
    for target, one in found.items():
        name = "RET" if ":sys_exit_" in target else "FD"
        places[f"XG_AT_{name}"] = one.fields[name.lower()]
    return tuple(f"{name}={offset}" for name, offset in places.items())
