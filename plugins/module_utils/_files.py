# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Small files on a node: read whole, written whole.

A file appears complete or not at all, under its final mode, also when the power fails between two
lines of ours.  Nothing here decides what to write.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import errno
import os
import tempfile


def read(path):
    """The text of a file, or None if there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def write(path, text, mode):
    """Put a file in place, its directory too; durable when this returns."""
    write_all([(path, text, mode)])


def write_all(files):
    """Put files (path, text, mode) in place together, as far as a file system can.

    Each is whole and on the disk before the first is renamed, so that only a power cut between two
    renames, microseconds apart, can leave some of them.
    """
    ready = []
    try:
        for path, text, mode in files:
            ready.append((temporary_file(path, text, mode), path))
        for temporary, path in ready:
            os.rename(temporary, path)
    except BaseException:
        for temporary, _path in ready:
            remove(temporary)
        raise
    for directory in sorted({os.path.dirname(path) for _temporary, path in ready}):
        sync_directory(directory)


def temporary_file(path, text, mode):
    """Write a file beside the one that it will be; its name."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".amaranten-ha-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        remove(temporary)
        raise
    return temporary


def sync_directory(directory):
    """Make a rename in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path):
    """Remove a file if it is there."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
