# SPDX-License-Identifier: GPL-3.0-or-later
"""Many pairs in one inventory: how long does the drift check of all of them take?"""
