# SPDX-License-Identifier: GPL-3.0-or-later
"""Many light pairs that beat for a long time while the machine is busy: does a role move?"""
