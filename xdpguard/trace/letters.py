"""The letters of ``trace``: -t -u -i -o -r -c -> kinds of events.

ebpflowexport's, in any order. A protocol and a direction narrow each other; -r and -c each add a kind:

    selected = (protocols x directions) + r + c

              -i (incoming)   -o (outgoing)
    -t (TCP)  accept          connect, connect-failed
    -u (UDP)  udp-recv        udp-send

    letters      kinds
    none         everything, ``listen`` too
    t            accept, connect, connect-failed          t without a direction: both
    u            udp-recv, udp-send
    tu = io      accept, connect, connect-failed, udp-recv, udp-send
    i            accept, udp-recv                         i without a protocol: both
    o            connect, connect-failed, udp-send
    ti           accept                  to   connect, connect-failed
    ui           udp-recv                uo   udp-send
    tio = t      uio = u                 tui = i   tuo = o   tuio = tu
    r            retransmit              c    close       rc   both
    any + r      the kinds of the others and retransmit; likewise c

Retransmissions and closes are TCP's: -ur means UDP and TCP's retransmissions, not an empty set.
"""

from __future__ import annotations

from xdpguard.errors import UsageError
from xdpguard.trace.model import Kind

LETTERS = "tuiorc"
_CROSS: dict[str, tuple[Kind, ...]] = {
    "ti": ("accept",),
    "to": ("connect", "connect-failed"),
    "ui": ("udp-recv",),
    "uo": ("udp-send",),
}
_ALONE: dict[str, Kind] = {"r": "retransmit", "c": "close"}


def kinds(letters: str) -> frozenset[Kind]:
    """Empty: everything, as in ``Filter``. UsageError: another letter."""
    wrong = [letter for letter in letters if letter not in LETTERS]
    if wrong:
        raise UsageError(f"event letters: {wrong[0]!r}, one of {', '.join(LETTERS)} expected; nothing traced")
    given = set(letters)
    protocols, directions = given & {"t", "u"}, given & {"i", "o"}
    chosen: set[Kind] = {_ALONE[letter] for letter in given & _ALONE.keys()}
    if protocols or directions:
        for protocol in protocols or "tu":
            for direction in directions or "io":
                chosen.update(_CROSS[protocol + direction])
    return frozenset(chosen)
