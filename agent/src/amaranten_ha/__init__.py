# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime agent of amaranten.ha: two Linux nodes that act as one firewall.

`core` decides and knows no clock, socket or file; `io` acts and never decides; `gate`, `stage`,
`heart`, `sync` and `cli` put the two together. Nothing in here imports Ansible.
"""

__version__ = "0.1.0"
