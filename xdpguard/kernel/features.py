"""What a device can do: XDP features (netlink) and receive VLAN offload (ethtool).

Owns the "netdev" generic netlink family and SIOCETHTOOL. Only asks, never sets. None always means "the kernel
cannot say", never "no". All functions work in the current thread's network namespace.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct

from xdpguard.kernel import link, netlink

# enum netdev_xdp_act, uapi/linux/netdev.h (Linux 6.3)
BASIC = 1  # DROP, PASS, TX
REDIRECT = 2  # can redirect its own frames elsewhere
NDO_XMIT = 4  # can be the target of a redirect
XSK_ZEROCOPY = 8
HW_OFFLOAD = 16
RX_SG = 32  # frames of several buffers, at a program that says it knows them
NDO_XMIT_SG = 64  # the same as the target of a redirect

# uapi/linux/genetlink.h, netdev.h
_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
_NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX, _NETDEV_A_DEV_XDP_FEATURES = 1, 1, 3
_GENL_HEADER = struct.Struct("=BBH")

# uapi/linux/sockios.h, ethtool.h
_SIOCETHTOOL = 0x8946
_ETHTOOL_GFLAGS = 0x25
_ETH_FLAG_RXVLAN = 1 << 8
_IFREQ_BYTES, _IFNAMSIZ = 40, 16


def xdp_features(ifindex: int) -> int | None:
    """The NETDEV_XDP_ACT_ bits of the device, or None: before Linux 6.3, or no such interface."""
    try:
        name = netlink.attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        family = _ask(_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, name)
        kind = netlink.number(family[_CTRL_ATTR_FAMILY_ID])
        selector = netlink.attribute(_NETDEV_A_DEV_IFINDEX, struct.pack("=I", ifindex))
        return netlink.number(_ask(kind, _NETDEV_CMD_DEV_GET, selector)[_NETDEV_A_DEV_XDP_FEATURES])
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # no such family, no such interface
            return None
        raise link.unreadable(f"the XDP features of {link.label(ifindex)}", error) from error


def _ask(family: int, command: int, body: bytes) -> dict[int, bytes]:
    answers = netlink.request(_NETLINK_GENERIC, family, _GENL_HEADER.pack(command, 1, 0) + body)
    return netlink.attributes(answers[0], _GENL_HEADER.size)


def rx_vlan_offload(name: str) -> bool | None:
    """Does the device take the VLAN tag out of received frames? None: it does not say, or is gone.

    In native mode such a tag is out of an XDP program's sight.
    """
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_GFLAGS, 0), 8)
    encoded = os.fsencode(name)
    if len(encoded) >= _IFNAMSIZ:
        return None  # ioctls know no alternative names
    ifreq = struct.pack(f"={_IFNAMSIZ}sQ", encoded, ctypes.addressof(value)).ljust(_IFREQ_BYTES, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            fcntl.ioctl(probe, _SIOCETHTOOL, ifreq)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENODEV):
                return None
            raise link.unreadable(f"the VLAN offload of {name}", error) from error
    return bool(struct.unpack("=II", value.raw)[1] & _ETH_FLAG_RXVLAN)
