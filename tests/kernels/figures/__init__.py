# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures: like the checks, but what they return is measured, and nobody waits for them.

For what the lab's kernel cannot hold. The machine is emulated, so a figure means something beside
another one of the same guest only.
"""
