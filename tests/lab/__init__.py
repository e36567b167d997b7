# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: two real Debian nodes with a client, a server and a dmz host around them.

Tests enter through ``Lab``, people through ``python -m tests.lab``. Only the standard library is
used, so that the lab can run before anything is installed. The machine's own network, settings
and firewall are never touched: everything happens in namespaces with names of the lab's own.
"""

from .lab import Lab
from .plan import LabError
from .watch import Frame, Watch, Way, after
from .wires import Direction

__all__ = ["Direction", "Frame", "Lab", "LabError", "Watch", "Way", "after"]
