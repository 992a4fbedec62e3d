"""Devices made of real programs: adbd in a network namespace of its own, sshd on loopback.

adbd asks nobody for a password and listens everywhere: it never runs where the network reaches.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tprune.android_runner.links import Adb, Local, Said, Ssh, adb_devices
from tprune.android_runner.transport import Device

DEBIAN13 = Path(os.environ.get("TPRUNE_DEBIAN13") or ROOT / "build" / "debian13")
"""Unpacked packages of Debian 13, see .ci/debian13."""
ADBD = DEBIAN13 / "usr/lib/android-sdk/platform-tools/adbd"
LOADER = DEBIAN13 / "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = (DEBIAN13 / "usr/lib/x86_64-linux-gnu", DEBIAN13 / "usr/lib/x86_64-linux-gnu/android")
PORT, SERVER_PORT = 5555, 5137
SECONDS = 20


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of that size at a folder, or a visible skip."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "full", folder], check=False).returncode:
        pytest.skip("skipped, needs to be root for a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def until(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Wait a bounded time."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"still waiting for {what}"
        time.sleep(0.02)


def need(*programs: str) -> None:
    """Skip visibly where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"skipped, needs {program}")


class AndroidShell(Local):
    """This machine through Android's shell and small programs, mksh and toybox, with no others in reach.

    Args:
        folder: Where everything goes.
        programs: Where they lie.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        super().__init__(str(folder), "mksh")
        vars(self)["environment"] = ("env", "-i", f"PATH={programs}", str(programs / "sh"), "-c")

    def shell(self, line: str, seconds: float) -> Said:
        """See `Link.shell`."""
        command = [*vars(self)["environment"], line]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=seconds)
        return Said(ended.stdout, ended.stderr.decode())


def android_shell(folder: Path, programs: Path) -> AndroidShell:
    """Android's shell and small programs as Debian builds them, or a visible skip."""
    need("mksh", "toybox")
    if not programs.exists():
        programs.mkdir()
        toybox = str(shutil.which("toybox"))
        for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
            (programs / name).symlink_to(toybox)
        (programs / "sh").unlink(missing_ok=True)
        (programs / "sh").symlink_to(str(shutil.which("mksh")))
    return AndroidShell(folder, programs)


class Namespace:
    """A network of its own that ends with its process."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = Path("/proc/self/ns/net").readlink()
        until(lambda: Path(f"/proc/{self.holder.pid}/ns/net").readlink() != own, "a network namespace")
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *words: str) -> tuple[str, ...]:
        """What runs these words in it."""
        return ("nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *words)

    def run(self, *words: str) -> str:
        """Run them and give what they print."""
        return subprocess.run(self.command(*words), check=True, capture_output=True, text=True, timeout=SECONDS).stdout

    def close(self) -> None:
        """End it."""
        self.holder.kill()
        self.holder.wait()


class Phone:
    """A real adbd in a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.plug()

    def command(self) -> tuple[str, ...]:
        """What starts adbd."""
        return (str(LOADER), "--library-path", ":".join(map(str, LIBRARIES)), str(ADBD))

    def plug(self) -> None:
        """Start it."""
        command = self.namespace.command(*self.command())
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: f":{PORT}" in self.namespace.run("ss", "-Hltn"), "adbd")

    def unplug(self) -> None:
        """Kill adbd; what it has started goes on, as on a phone whose cable is pulled."""
        self.process.kill()
        self.process.wait()


class Desk:
    """An adb server in a namespace, which reaches two phones: its own and, over a wire, another.

    Args:
        home: For the server's files.
        other: Makes the other phone in its namespace.
    """

    def __init__(self, home: Path, other: Callable[[Namespace], Phone] = Phone) -> None:
        self.here, self.there = Namespace(), Namespace()
        self.here.run("ip", "link", "add", "here", "type", "veth", "peer", "there", "netns", str(self.there.holder.pid))
        for namespace, wire, address in ((self.here, "here", "10.9.8.1"), (self.there, "there", "10.9.8.2")):
            namespace.run("ip", "address", "add", f"{address}/24", "dev", wire)
            namespace.run("ip", "link", "set", wire, "up")
        self.phones = (Phone(self.here), other(self.there))
        self.serials = (f"127.0.0.1:{PORT}", f"10.9.8.2:{PORT}")
        self.adb = ("env", f"HOME={home}", *self.here.command("adb", "-P", str(SERVER_PORT)))
        self.call("start-server")
        for serial in self.serials:
            self.connect(serial)

    def call(self, *words: str) -> str:
        """Run adb; its server inherits nothing that anybody waits for."""
        with Path(os.devnull).open("w") as nowhere:
            ended = subprocess.run(
                (*self.adb, *words), check=True, stdout=subprocess.PIPE if words[0] != "start-server" else nowhere,
                stderr=nowhere, text=True, timeout=SECONDS,
            )  # fmt: skip
        return ended.stdout or ""

    def connect(self, serial: str) -> None:
        """Connect until the phone is there."""

        def there() -> bool:
            if adb_devices(self.adb).get(serial) not in (None, "device"):
                self.call("disconnect", serial)
            self.call("connect", serial)
            return adb_devices(self.adb).get(serial) == "device"

        until(there, serial)

    def link(self, phone: int, folder: Path) -> Adb:
        """The way to a phone."""
        return Adb(self.serials[phone], self.adb, str(folder))

    @contextlib.contextmanager
    def unauthorized(self) -> Iterator[str]:
        """The serial of a phone whose owner has not confirmed yet."""
        port = PORT + 1
        command = self.here.command(sys.executable, str(Path(__file__).with_name("unauthorized_phone.py")), str(port))
        with subprocess.Popen(command) as phone:
            until(lambda: f":{port}" in self.here.run("ss", "-Hltn"), "the peer")
            serial = f"127.0.0.1:{port}"
            with contextlib.suppress(subprocess.CalledProcessError):
                self.call("connect", serial)
            until(lambda: adb_devices(self.adb).get(serial) == "unauthorized", serial)
            yield serial
            self.call("disconnect", serial)
            phone.kill()

    def close(self) -> None:
        """End everything."""
        self.call("kill-server")
        for phone in self.phones:
            phone.unplug()
        self.here.close()
        self.there.close()


@contextlib.contextmanager
def desk(home: Path, other: Callable[[Namespace], Phone] = Phone) -> Iterator[Desk]:
    """Two phones on adb, see `Desk`, or a visible skip."""
    need("adb", "ip", "ss", "nsenter", "unshare")
    if not ADBD.exists():
        pytest.skip(f"skipped, needs adbd of Debian 13 in {DEBIAN13}: run .ci/debian13")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("skipped, needs to be root for network namespaces")
    made = Desk(home, other)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def board(home: Path, sftp: bool = True) -> Iterator[Ssh]:
    """A real sshd on loopback that knows one key, with an SFTP server or without one, or a visible skip."""
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    need("ssh", "scp", "ssh-keygen", sshd)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    (home / "authorized").write_bytes((home / "user.pub").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (home / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\n"
        f"PasswordAuthentication no\nStrictModes no\nPidFile none\nUsePAM no\n"
        f"{'Subsystem sftp internal-sftp' if sftp else ''}\n"
    )
    known = f"[127.0.0.1]:{port} {(home / 'host.pub').read_text()}"
    (home / "known_hosts").write_text(known)
    (home / "ssh_config").write_text(
        f"Host board\n HostName 127.0.0.1\n Port {port}\n IdentityFile {home}/user\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {home}/known_hosts\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # where it shuts itself in
    with subprocess.Popen([sshd, "-D", "-e", "-f", str(home / "sshd_config")], stderr=subprocess.DEVNULL) as server:
        try:
            made = Ssh("board", home / "ssh_config", str(home / "device"))
            until(lambda: _listens(port), "sshd")
            yield made
        finally:
            server.kill()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def starts_of(device: Device, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the programs that a device was told to start, even if it was lost then; growing as there are more."""
    started: list[str] = []
    real = device.start

    def counted(folder: str, command: list[str]) -> None:
        try:
            real(folder, command)
        finally:
            started.append(folder)

    monkeypatch.setattr(device, "start", counted)
    return started
