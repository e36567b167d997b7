# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The attributes that every module of the collection states, described once."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of modules, two of them our own."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and tells truthfully what would change, without changing it.
  diff_mode:
    description: Returns what has changed, or would change, in diff mode.
  platform:
    description: Where it runs.
    support: full
    platforms: linux
  pair:
    description: Looks at both nodes of the pair; runs for one of them if the play is limited to it.
    support: none
  disruptive:
    description: Can interrupt traffic for a moment, or cause a change of roles.
    support: none
"""
