"""``restore``: what was confirmed last is in force again, after a reboot or a lost bpf file system."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xdpguard.errors import NotLoadedError, XdpguardError
from xdpguard.generation.compiled import read
from xdpguard.guard import confirmed
from xdpguard.guard.load import load
from xdpguard.kernel import link
from xdpguard.kernel.discover import examined
from xdpguard.kernel.netns import inside

Say = Callable[[str], None]


def restore(interface: str | None, netns: str | None, say: Say) -> list[XdpguardError]:
    """Load again what was confirmed, where nothing is loaded. The errors, one for each interface that has no
    rules in force now although it should. NotLoadedError: ``interface`` has no confirmed rules.
    """
    here = confirmed.is_host()
    wanted = [one for one in confirmed.marked() if _asked(one, interface, netns) and (one[0] or here)]
    if not wanted and interface is not None:
        raise NotLoadedError(f"{interface}: no confirmed rules are kept for it; nothing changed")
    return list(_each(wanted, say, named=interface is not None))


def _asked(one: tuple[str | None, str], interface: str | None, netns: str | None) -> bool:
    home, name = one
    return (interface is None or name == interface) and (netns is None or home == netns)


def _each(wanted: list[tuple[str | None, str]], say: Say, *, named: bool) -> Iterator[XdpguardError]:
    """``named``: the user asked for that interface, so that it is an error if it is not there."""
    for home, name in wanted:
        try:
            if inside(home, _is_loaded, name):
                say(f"{name}: xdpguard is loaded there; left as it is")
                continue
            record = confirmed.read(home, name)
            rules = read(next(iter(record.files)), say, files=record.files)
            load(
                [name], rules, mode=record.mode, netns=home, confirm=None, force=False, say=say,
                verbose=False, account_owners=record.account_owners,
            )  # fmt: skip
        except NotLoadedError as error:
            if named:
                yield error
            else:
                say(f"{str(error).removesuffix('; nothing changed')}: its rules are kept until it is there")
        except XdpguardError as error:
            yield error


def _is_loaded(name: str) -> bool:
    with examined(link.find(name)) as found:
        return found.current is not None
