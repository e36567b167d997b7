# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Elements of sets that packets and time change, on their way into another ruleset.

The trial of a ruleset enters, before it loads one and before it takes one back.  What a text does
not bear is found with nft, and never loaded to find out.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import contextlib
import os

from ansible_collections.amaranten.ha.plugins.module_utils._files import write
from ansible_collections.amaranten.ha.plugins.module_utils._nft import NftError, addition


class Moving(object):
    """The sets of this node's tables; texts to be checked are written below a directory."""

    def __init__(self, nft, directory):
        self._nft = nft
        self._directory = directory

    def present(self, tables):
        """Those of some tables that the kernel has."""
        live = self._nft.tables()
        return [table for table in tables if table in live]

    def elements(self, tables):
        """Set to the statement that gives it the elements it has now; empty if it has none."""
        found = {}
        for table in self.present(tables):
            for name, elements in self._nft.moving(table).items():
                found["%s %s" % (table, name)] = addition(table, name, elements)
        return found

    def carried(self, text, elements):
        """(those of the statements that a text bears, the sets for which it bears none).

        A text that the kernel refuses by itself is told as it is: NftError.
        """
        self._check(text)
        every = "".join(elements.values())
        with contextlib.suppress(NftError):
            self._check(text + every)
            return every, []
        borne, lost = "", []
        for name, statement in elements.items():
            try:
                self._check(text + statement)
                borne += statement
            except NftError:
                lost.append(name)
        return borne, lost

    def _check(self, text):
        path = os.path.join(self._directory, "check.nft")
        write(path, text, 0o600)
        self._nft.check(path)
