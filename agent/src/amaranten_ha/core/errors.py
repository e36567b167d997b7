# SPDX-License-Identifier: GPL-3.0-or-later
"""The four ways in which something can go wrong; each tells whose fault it is.

Everything that this package raises on purpose is one of these. Anything else that escapes is a
defect, by contract, and the decoders' tests rely on that.
"""


class HaError(Exception):
    """Common base, so that a command can turn any of them into one sentence."""


class ConfigurationError(HaError):
    """The operator's input is wrong; the text names file, key, value and what was expected."""


class PeerError(HaError):
    """Bytes from the network break the protocol; they are counted and never acted upon."""


class KernelRefused(HaError):
    """The kernel said no; the text names the request and the error."""


class BugError(HaError):
    """We are wrong: an invariant of our own does not hold."""
