#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unpacks a version of the agent beside the others, compiled and complete, or not at all.

The action plugin of the same name brings the archive if the node lacks it.  Nothing that runs is
touched here: which version runs is the matter of the module `agent`.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: A version of the agent on a node, unpacked beside the others
description:
  - Unpacks the agent's archive into a directory that is named by its version and digest, and
    compiles it to byte code. The directory appears whole or not at all.
  - The archive is the one that the collection carries; where the collection has the agent's
    sources, as after an installation from git, it is built from them first. It is copied only to a
    node that lacks it.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  root:
    description: Where versions are unpacked.
    type: path
    default: /usr/lib/amaranten-ha
  name:
    description: The directory's name. Filled in by the action plugin.
    type: str
  sha256:
    description: The archive's digest. Filled in by the action plugin.
    type: str
  archive:
    description: The archive on the node. Filled in by the action plugin.
    type: path
seealso:
  - module: amaranten.ha.agent
"""

EXAMPLES = r"""
- name: Bring the agent's version to the node
  amaranten.ha.release:
  register: release

- name: Let it run
  amaranten.ha.agent:
    release: "{{ release.name }}"
    files:
      /etc/amaranten-ha/agent.toml: "{{ pair.agent_toml | hash('sha256') }}"
"""

RETURN = r"""
name:
  description: The directory's name.
  returned: always
  type: str
  sample: 0.1.0-0123456789ab
version:
  description: The agent's version. Filled in by the action plugin.
  returned: always
  type: str
  sample: 0.1.0
protocol:
  description: The major versions of its heartbeats and of its replication. Filled in by the action
    plugin.
  returned: always
  type: str
  sample: 1/1
"""

import hashlib
import os
import shutil
import tarfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._files import sync_directory, write

# The interpreter of the services; the module's own may be another.
PYTHON = "/usr/bin/python3"
COMPLETE = ".complete"


def digest_of(path):
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def unpack(module, archive, directory):
    """Fill a new directory and compile what is in it."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar.getmembers():
            if (
                member.name.startswith("/")
                or ".." in member.name.split("/")
                or not (member.isfile() or member.isdir())
            ):
                module.fail_json(
                    msg="%s contains %s, expected only files below it." % (archive, member.name)
                )
        tar.extractall(directory)
    # Hashes instead of times: the archive's files have none, and nobody edits them in place.
    arguments = [
        PYTHON,
        "-I",
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        directory,
    ]
    code, out, error = module.run_command(arguments)
    if code != 0:
        module.fail_json(
            msg="The agent cannot be compiled by %s: %s" % (PYTHON, " ".join((out + error).split()))
        )


def install(module, parameters, directory):
    """Unpack beside, then rename: a half version never has the final name."""
    if digest_of(parameters["archive"]) != parameters["sha256"]:
        module.fail_json(
            msg="The agent's archive was damaged on its way, expected the digest %s."
            % parameters["sha256"]
        )
    partial = os.path.join(parameters["root"], ".partial-" + parameters["name"])
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(partial, mode=0o755)
    unpack(module, parameters["archive"], partial)
    write(os.path.join(partial, COMPLETE), parameters["sha256"] + "\n", 0o644)
    os.rename(partial, directory)
    sync_directory(parameters["root"])


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/usr/lib/amaranten-ha"},
            "name": {"type": "str"},
            "sha256": {"type": "str"},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    if not parameters["name"] or not parameters["sha256"]:
        module.fail_json(
            msg="amaranten.ha.release needs its action plugin, which knows the archive."
        )
    directory = os.path.join(parameters["root"], parameters["name"])
    present = os.path.exists(os.path.join(directory, COMPLETE))
    if not present and parameters["archive"] and not module.check_mode:
        os.umask(0o022)
        install(module, parameters, directory)
    module.exit_json(
        changed=not present,
        name=parameters["name"],
        diff={"before": "", "after": "" if present else directory + "\n"},
    )


if __name__ == "__main__":
    main()
