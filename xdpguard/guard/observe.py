"""When delivery is observed: from the first load whose ingress rules tx or redirect, until unload.

No part of a verdict: where it cannot be had, ``load`` says so and why, and goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from xdpguard.errors import XdpguardError
from xdpguard.generation import slots
from xdpguard.generation.outline import Outline
from xdpguard.kernel.discover import Found
from xdpguard.kernel.maps import MapSet

Say = Callable[[str], None]


def start(found: Found, plan: Outline, xdp_program: int, mode: str, say: Say) -> bool:
    """See that frames of the attached XDP program are observed if a rule may send some. True: from now on."""
    if not plan.sends:
        return False
    if found.delivery.read(xdp_program) is not None:
        return False
    current = found.current
    # Asked first: once it is attached, nothing may fail before the caller knows of it.
    unobserved = current is not None and current.current_abi and _sent_before(current)
    why = _begin(found, xdp_program, mode)
    if why:
        say(f"{found.link.name}: it is not observed whether tx and redirect are delivered: {why}")
    elif unobserved:
        say(f"{found.link.name}: tx and redirect that are not delivered are counted from now on only")
    return not why


def _begin(found: Found, xdp_program: int, mode: str) -> str:
    """Attach; why it could not be, or nothing."""
    if found.link.kind == "bond" and mode == "native":
        return "frames of a bond are sent by its members"  # xdp_master_redirect() in net/core/filter.c
    found.delivery.remove()  # what is of another program, or not whole
    try:
        found.delivery.attach(xdp_program, exact=found.link.kind == "veth")
    except (XdpguardError, OSError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        return str(text).removesuffix("; nothing changed")
    return ""


def _sent_before(current: MapSet) -> bool:
    """May frames have been sent, unobserved, by rules that are or were in force?"""
    for slot in {current.word.active, current.word.previous}:
        names = slots.describe(current, slot)
        if names is not None and any(rule.action in ("tx", "redirect") for rule in names.rules[0]):
            return True
    return False
