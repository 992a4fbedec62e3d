"""A phone of another processor: adbd, mksh and toybox for Arm64 in a root of their own, emulated program by program.

What such a phone lacks is Android's kernel, its C library and what `getprop` and `dumpsys` tell. Its time says nothing.
"""

import contextlib
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.android_runner.phones import DEBIAN13, Desk, Namespace, Phone, desk

QEMU, ARM64 = DEBIAN13 / "usr/bin/qemu-aarch64", DEBIAN13 / "arm64/usr"
PROCESSOR = "cortex-a76"
"""A phone's. On processors with SME, as the emulator's own is by default, ONNX Runtime takes other int8 kernels, and
logits differ by 0.04 from those here."""
FOLDER = Path("/data/local/tmp/tprune")
BINFMT, HANDLER = Path("/proc/sys/fs/binfmt_misc"), "tprune-arm64"
MAGIC = rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


class Arm64Phone(Phone):
    """A real adbd for Arm64, and the shell and programs that it finds.

    Args:
        namespace: Its network.
        root: An empty folder; nothing is left in it.
    """

    def __init__(self, namespace: Namespace, root: Path) -> None:
        self.root = root
        super().__init__(namespace)

    def command(self) -> tuple[str, ...]:
        """See `Phone.command`; everything that was started on it ends with it."""
        script = Path(__file__).with_name("arm64_phone.sh")
        own = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        return (*own, str(script), str(self.root), str(ARM64), PROCESSOR)


@contextlib.contextmanager
def arm64_programs() -> Iterator[None]:
    """Have this kernel start programs for Arm64 in the emulator, or skip visibly."""
    if not QEMU.exists() or not ARM64.exists():
        pytest.skip(f"skipped, needs an emulator and programs of Arm64 in {DEBIAN13}: run .ci/debian13")
    if platform.machine() == "aarch64":
        pytest.skip("skipped, needs another processor than that which is emulated")
    mount = ["mount", "-t", "binfmt_misc", "none", str(BINFMT)]
    mounted = not (BINFMT / "register").exists()
    if mounted and subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("skipped, needs binfmt_misc, and to be root for it")
    try:
        # F: the emulator is opened here, so that a program finds it in a root that does not hold it
        line = b":%s:M::%s:%s:%s:F" % (HANDLER.encode(), MAGIC, MASK, bytes(QEMU))
        _write(BINFMT / "register", line)
        try:
            yield
        finally:
            _write(BINFMT / HANDLER, b"-1")
    finally:
        if mounted:
            subprocess.run(["umount", BINFMT], check=True)


@contextlib.contextmanager
def arm64_desk(home: Path) -> Iterator[Desk]:
    """Two phones on adb, of this processor and of Arm64, or a visible skip."""
    root = home / "root"
    root.mkdir()
    with arm64_programs(), desk(home, lambda namespace: Arm64Phone(namespace, root)) as made:
        yield made


def _write(path: Path, line: bytes) -> None:
    try:
        path.write_bytes(line)
    except OSError as error:
        pytest.skip(f"skipped, needs binfmt_misc, and to be root for it: {error}")
