# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration: from bare nodes to a power cut under traffic, in one command.

People enter through ``make demo``. It uses the lab and ``playbooks/site.yml`` as anybody would and
knows nothing of the agent but its command line.
"""
