# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs inside the emulated machine: its first process, the runner, and network helpers.

Standard library only, because nothing else is in the guest. The builder and the tests outside
read file names from here and import nothing that needs the guest's kernel.
"""
