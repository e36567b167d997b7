# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel room: what the product needs of a kernel, tried on the kernels of Debian 12 and 13.

Each kernel boots in qemu with software emulation, runs every function of ``checks/`` as a
process of its own inside the guest, and powers the guest off. Function is tested here, never
timing: an emulated clock proves nothing. Nothing of this room touches the machine that runs it,
except for the cache directory named in ``recipe``.
"""
