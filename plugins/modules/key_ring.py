#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The agent's keys on a node, in a file that only root reads.

Neither the result nor the diff ever shows a key: a change is shown by the keys' ids and hashes.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: key_ring
short_description: The agent's keys on a node
description:
  - Writes the keys with which heartbeats and replication are sealed.
  - A change is shown by ids and hashes, never by keys.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows ids and hashes.
options:
  keys:
    description: Id to a key, which is base64 of 32 random bytes. All are accepted from the peer.
    type: dict
    required: true
  send_key:
    description: The id of the key that the node itself uses.
    type: int
    required: true
  path:
    description: The file.
    type: path
    default: /etc/amaranten-ha/keys.toml
"""

EXAMPLES = r"""
- name: Give the node its keys
  amaranten.ha.key_ring:
    keys: "{{ ha_cluster['keys'] }}"
    send_key: 1
"""

RETURN = r"""
ids:
  description: Id to a hash of each key.
  returned: always
  type: dict
  sample: {"1": 9f86d081884c}
sha256:
  description: Digest of the whole file.
  returned: always
  type: str
"""

import os
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils import _keys as ring
from ansible_collections.amaranten.ha.plugins.module_utils._agent import digest
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, write

MODE = 0o600
EXPOSED = "mode is not 0600"


def plan(path, text):
    """What differs in the file, without a key."""
    found = read(path)
    reasons = [] if found == text else ["the keys differ"]
    if found is not None and stat.S_IMODE(os.stat(path).st_mode) != MODE:
        reasons.append(EXPOSED)
    return reasons


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "keys": {"type": "dict", "required": True, "no_log": True},
            "send_key": {"type": "int", "required": True, "no_log": False},
            "path": {"type": "path", "default": "/etc/amaranten-ha/keys.toml"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    send_key = module.params["send_key"]
    keys = {int(number): str(key) for number, key in module.params["keys"].items()}
    text = ring.render(keys, send_key)
    old_text = read(path)
    reasons = plan(path, text)
    if reasons and not module.check_mode:
        write(path, text, MODE)
        left = plan(path, text)
        if left:
            module.fail_json(msg="%s was written and is still not as asked: %s." % (path, left[0]))
    module.exit_json(
        changed=bool(reasons),
        ids=ring.describe(keys, send_key)["ids"],
        sha256=digest(text),
        diff={
            "before_header": path,
            "after_header": path,
            "before": ring.described_text(*ring.parse(old_text or ""))
            + (EXPOSED + "\n" if EXPOSED in reasons else ""),
            "after": ring.described_text(keys, send_key),
        },
    )


if __name__ == "__main__":
    main()
