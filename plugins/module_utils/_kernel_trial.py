# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether this kernel can do what the gate and the replication need, found out by doing it.

A child process makes itself an empty network namespace, puts the parts of the gate there, and ends,
and everything is gone with it: the node's own networks and rules are never touched.  It speaks
netlink itself, because nft may not be installed yet.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct

CLONE_NEWNET = 0x40000000
NETLINK_NETFILTER = 12
NFTABLES, CTNETLINK = 10, 1
NEWTABLE, NEWCHAIN, CT_STATS = 0, 3, 5
BATCH_BEGIN, BATCH_END = 0x10, 0x11
REQUEST, ACK, CREATE = 1, 4, 0x400
NETDEV, INET = 5, 1
OWNER, PERSIST = 2, 4
INGRESS, EGRESS, POSTROUTING = 0, 1, 4
WAIT_S = 10


def attribute(kind, value):
    """A netlink attribute."""
    head = struct.pack("=HH", 4 + len(value), kind)
    return head + value + b"\0" * (-len(value) % 4)


def number(value):
    """A number as nftables wants it."""
    return struct.pack(">I", value & 0xFFFFFFFF)


def message(kind, flags, sequence, family, resource, body):
    """A netlink message of netfilter."""
    body = struct.pack(">BBH", family, 0, resource) + body
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def batch(*parts):
    """A transaction of (kind, family, body), each to be acknowledged."""
    found = message(BATCH_BEGIN, REQUEST, 0, 0, NFTABLES, b"")
    for sequence, (kind, family, body) in enumerate(parts, 1):
        flags = REQUEST | ACK | CREATE
        found += message(NFTABLES << 8 | kind, flags, sequence, family, 0, body)
    return found + message(BATCH_END, REQUEST, len(parts) + 1, 0, NFTABLES, b"")


def table(family, flags=0):
    """The message that makes a table."""
    return NEWTABLE, family, attribute(1, b"trial\0") + attribute(2, number(flags))


def chain(family, kind, hook):
    """The message that makes a base chain."""
    place = attribute(1, number(hook)) + attribute(2, number(-500 if family == NETDEV else 100))
    if family == NETDEV:
        place += attribute(3, b"lo\0")
    body = attribute(1, b"trial\0") + attribute(3, b"trial\0") + attribute(4 | 0x8000, place)
    return NEWCHAIN, family, body + attribute(7, kind)


TRIALS = {
    "owner": batch(table(NETDEV, OWNER)),
    "persist": batch(table(NETDEV, OWNER | PERSIST)),
    "ingress": batch(table(NETDEV), chain(NETDEV, b"filter\0", INGRESS)),
    "egress": batch(table(NETDEV), chain(NETDEV, b"filter\0", EGRESS)),
    "nat": batch(table(INET), chain(INET, b"nat\0", POSTROUTING)),
    "conntrack": message(CTNETLINK << 8 | CT_STATS, REQUEST | ACK, 1, 0, 0, b""),
}


def asked(request):
    """The kernel's answer to a request: nothing if it did it, else the error's name."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as found:
        found.settimeout(WAIT_S)
        found.bind((0, 0))
        found.send(request)
        data = found.recv(65536)
    while len(data) >= 20:
        length, kind = struct.unpack_from("=IH", data)
        code = struct.unpack_from("=i", data, 16)[0] if kind == 2 else 0
        if code:
            return errno.errorcode.get(-code, str(-code))
        data = data[(length + 3) & ~3 :]
    return ""


def trial():
    """Each feature to nothing, or to the name of the error that it met."""
    found = {}
    for name, request in TRIALS.items():
        # A namespace for each: a table that has an owner is in the way of the next one.
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace of its own")
        try:
            found[name] = asked(request)
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, str(error))
    return found


def features():
    """(feature to nothing or an error, why it could not be found out)."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            try:
                said = json.dumps([trial(), ""])
            except OSError as error:
                said = json.dumps([{}, error.strerror or str(error)])
            os.write(writing, said.encode("ascii"))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    found, why = json.loads(said or '[{}, "the trial died"]')
    return found, why
