# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The drill's own ways to the hosts, apart from Ansible's, for as long as the drill lasts.

Nodes are reached over SSH by paramiko, with the options that the inventory gives to Ansible; a host
with the connection `local` is this machine, if need be behind a command (a network namespace).
Nothing here knows what is run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import threading
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_program import DrillError

if t.TYPE_CHECKING:
    import paramiko

CONNECT_S = 15
KEEPALIVE_S = 5


class LocalChannel:
    """A process of this machine."""

    def __init__(self, command: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._input = t.cast(t.IO[bytes], self._process.stdin)
        self._errors = t.cast(t.IO[bytes], self._process.stderr)

    def lines(self) -> t.Iterator[str]:
        """What it prints, until it ends."""
        for line in self._process.stdout or ():
            yield line.decode("utf-8", "replace")

    def send(self, data: bytes) -> None:
        """Write to its standard input."""
        with contextlib.suppress(OSError):  # it has ended; whoever reads it will see
            self._input.write(data)
            self._input.flush()

    def close_input(self) -> None:
        """Close its standard input."""
        with contextlib.suppress(OSError):  # it has ended with something unread
            self._input.close()

    def complaint(self) -> str:
        """What it said on standard error; waits for its end."""
        self.close_input()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            return ""
        return self._errors.read().decode("utf-8", "replace")

    def status(self) -> int:
        """Its exit code; waits for its end."""
        return self._process.wait()

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class LocalSession:
    """This machine, behind a command if the inventory names one."""

    def __init__(self, name: str, prefix: str = "") -> None:
        self.name = name
        self._prefix = f"exec {prefix} " if prefix else "exec "

    def start(self, command: str) -> LocalChannel:
        """Start a command."""
        return LocalChannel(f"{self._prefix}/bin/sh -c {shlex.quote('exec ' + command)}")

    def close(self) -> None:
        """Nothing is held."""


class SshChannel:
    """A command on a host."""

    def __init__(self, channel: paramiko.Channel, command: str) -> None:
        self._channel = channel
        channel.exec_command(command)
        self._file = channel.makefile("rb")

    def lines(self) -> t.Iterator[str]:
        """What it prints, until it ends or the way to it does."""
        try:
            for line in self._file:
                yield line if isinstance(line, str) else line.decode("utf-8", "replace")
        except (OSError, EOFError):
            return

    def send(self, data: bytes) -> None:
        """Write to its standard input."""
        with contextlib.suppress(OSError):  # the way is gone; whoever reads it will see
            self._channel.sendall(data)

    def close_input(self) -> None:
        """Close its standard input."""
        with contextlib.suppress(OSError, EOFError):  # the way is gone
            self._channel.shutdown_write()

    def complaint(self) -> str:
        """What it said on standard error so far."""
        self._channel.settimeout(2)
        try:
            return self._channel.makefile_stderr("rb").read().decode("utf-8", "replace")
        except OSError:
            return ""

    def status(self) -> int:
        """Its exit code, -1 if the way to it is gone; waits for its end."""
        return self._channel.recv_exit_status()

    def close(self) -> None:
        """Let go of it."""
        self._channel.close()


class SshSession:
    """A host over SSH, as the inventory says."""

    def __init__(self, name: str, options: SshOptions) -> None:
        self.name = name
        self._options = options
        self._client, self._proxy = connect(name, options)

    def start(self, command: str) -> SshChannel:
        """Start a command in a channel of its own."""
        import paramiko

        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise DrillError(f"The SSH session to {self.name} is gone.")
        try:
            channel = transport.open_session(timeout=CONNECT_S)
        except (OSError, paramiko.SSHException, EOFError) as problem:
            raise DrillError(f"The SSH session to {self.name} is gone: {problem}.") from problem
        prefix = "sudo -n -- /bin/sh -c " if self._options.become else ""
        return SshChannel(channel, prefix + (shlex.quote(command) if prefix else command))

    def alive(self) -> bool:
        """Whether the way to the host is still there."""
        transport = self._client.get_transport()
        return transport is not None and transport.is_active()

    def close(self) -> None:
        """Close it."""
        self._client.close()
        if self._proxy is not None:
            end_proxy(self._proxy)


class SshOptions:
    """What the inventory says about SSH to a host, in the words that OpenSSH has for it."""

    def __init__(self, variables: t.Mapping[str, t.Any], name: str) -> None:
        self.host = str(variables.get("ansible_host", name))
        self.port = int(variables.get("ansible_port", 22))
        self.user = str(variables.get("ansible_user", "") or "")
        self.password = variables.get("ansible_password", variables.get("ansible_ssh_pass"))
        self.key_file = str(variables.get("ansible_ssh_private_key_file", "") or "")
        self.become = bool(variables.get("ansible_become", False))
        self.options: dict[str, str] = {}
        for key in ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"):
            self._read(shlex.split(str(variables.get(key, "") or "")))
        self._read_file()

    def _read(self, words: list[str]) -> None:
        while words:
            word = words.pop(0)
            value = word[2:] or (words.pop(0) if words and word[:1] == "-" else "")
            if word[:2] == "-o" and value:
                key, rest = re.split("[= ]", value + " ", maxsplit=1)
                self.options.setdefault(key.lower(), rest.strip())
            elif word[:2] == "-i":
                self.key_file = self.key_file or value
            elif word[:2] in ("-J", "-F", "-p", "-l"):
                name = {"-J": "proxyjump", "-F": "configfile", "-p": "port", "-l": "user"}
                self.options.setdefault(name[word[:2]], value)

    def _read_file(self) -> None:
        """What the user's own configuration adds, behind what the inventory says."""
        import paramiko

        path = os.path.expanduser(self.options.get("configfile", "~/.ssh/config"))
        found: t.Mapping[str, t.Any] = {}
        if path != "none" and os.path.isfile(path):
            found = paramiko.SSHConfig.from_path(path).lookup(self.host)
        for key, value in found.items():
            if isinstance(value, str):
                self.options.setdefault(key, value)
        self.host = self.options.get("hostname", self.host)
        self.port = int(self.options.get("port", self.port))
        self.user = self.user or self.options.get("user", "")
        files = found.get("identityfile", []) if not self.key_file else []
        self.key_file = self.key_file or self.options.get("identityfile", (files or [""])[0])

    def proxy(self) -> str:
        """The command that leads to the host, or nothing."""
        if "proxycommand" in self.options and self.options["proxycommand"] != "none":
            return (
                self.options["proxycommand"]
                .replace("%h", self.host)
                .replace("%p", str(self.port))
                .replace("%r", self.user)
            )
        if self.options.get("proxyjump", "none") != "none":
            jump = shlex.quote(self.options["proxyjump"])
            return f"ssh -W {self.host}:{self.port} {jump}"
        return ""

    def known_hosts(self) -> list[str]:
        """The files that hold the keys of known hosts."""
        user = self.options.get("userknownhostsfile", "~/.ssh/known_hosts")
        system = self.options.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts")
        paths = [os.path.expanduser(each) for each in (user + " " + system).split()]
        return [path for path in paths if os.path.isfile(path)]


def start_proxy(command: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The command that leads to a host, behind a socket.

    paramiko's own way, with pipes, does not see the end of the command while something is sent.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"], stdin=theirs, stdout=theirs,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    return process, ours


def end_proxy(process: subprocess.Popen[bytes]) -> None:
    """End it, and leave no dead process behind."""
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def connect(
    name: str, options: SshOptions
) -> tuple[paramiko.SSHClient, subprocess.Popen[bytes] | None]:
    """A client that is connected, and the command that leads there if one does; or a sentence."""
    import paramiko

    client = paramiko.SSHClient()
    for path in options.known_hosts():
        client.load_system_host_keys(path)
    if options.options.get("stricthostkeychecking", "ask") in ("no", "accept-new"):
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    proxy = options.proxy()
    only = options.options.get("identitiesonly", "no") == "yes"
    process, way = None, None
    with contextlib.ExitStack() as undo:
        undo.callback(client.close)
        if proxy:
            process, way = start_proxy(proxy)
            undo.callback(end_proxy, process)
        try:
            client.connect(
                options.host,
                port=options.port,
                username=options.user or None,
                password=str(options.password) if options.password else None,
                key_filename=os.path.expanduser(options.key_file) if options.key_file else None,
                allow_agent=not only,
                look_for_keys=not only,
                sock=way,
                timeout=CONNECT_S,
                banner_timeout=CONNECT_S,
                auth_timeout=CONNECT_S,
            )
        except (OSError, paramiko.SSHException, EOFError) as problem:
            raise DrillError(f"{name} cannot be reached over SSH: {problem}.") from problem
        undo.pop_all()
    transport = client.get_transport()
    if transport is not None:
        transport.set_keepalive(KEEPALIVE_S)
    return client, process


AnySession = t.Union[LocalSession, SshSession]


def open_session(name: str, variables: t.Mapping[str, t.Any]) -> AnySession:
    """The way to a host of the inventory."""
    if str(variables.get("ansible_connection", "ssh")) == "local":
        return LocalSession(name, str(variables.get("vantage_command", "") or ""))
    return SshSession(name, SshOptions(variables, name))


def run(session: AnySession, command: str, timeout_s: float = 30) -> tuple[int, str]:
    """Run a command to its end: its exit code and what it printed, both kinds together."""
    channel = session.start(f"/bin/sh -c {shlex.quote('{ ' + command + '; } 2>&1')}")
    patience = threading.Timer(timeout_s, channel.close)
    patience.start()
    try:
        said = "".join(channel.lines())
        return channel.status(), said.strip()
    finally:
        patience.cancel()
        channel.close()
