"""Which device is meant, and that a POSIX shell runs the lines whatever shell a board's user has."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.artifacts import error_of
from tprune.android_runner import links
from tprune.android_runner.links import Adb, Ssh
from tprune.android_runner.transport import Device

WORDS_ONLY = '''#!{python}
"""A login shell that knows only words; in quotes it takes a backslash for its own, as fish does."""
import os, re, sys
word = r"""(?:'(?:[^'\\\\]|\\\\.)*'|"[^"]*"|\\\\.|[^\\s'"\\\\;&|()$<>`])+"""
line = sys.argv[2]
words = re.findall(word, line, re.DOTALL)
if " ".join(words) != line:
    sys.exit("words-only: expected a command")
part = re.compile(r"""'((?:[^'\\\\]|\\\\.)*)'|"([^"]*)"|\\\\(.)|(.)""", re.DOTALL)
def meant(found):
    if found[1] is not None:
        return re.sub(r"\\\\(['\\\\])", r"\\1", found[1])
    return found[2] or found[3] or found[4] or ""
words = [part.sub(meant, one) for one in words]
assert words.pop(0) == "exec", words
os.execvp(words[0], words)
'''
WORDS = ["plain", "it's", 'a "b"', "back\\slash", "\\", "\\\\", "end\\'", "$HOME", "`id`", "a\nb", "ä ~ * ! %", ""]


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "fish", "words-only"])
def test_a_board_whose_user_has_another_shell(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    program = shutil.which(shell)
    if shell == "words-only":
        (programs / shell).write_text(WORDS_ONLY.format(python=sys.executable))
        (programs / shell).chmod(0o755)
        program = str(programs / shell)
    if program is None:
        pytest.skip(f"skipped, needs {shell}")
    (programs / "ssh").write_text(f'#!/bin/sh\nfor line; do :; done\nexec {program} -c "$line"\n')  # as sshd does
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    device = Device(Ssh("board", folder=str(tmp_path / "device")))
    assert device.run(["printf", "%s\\0", *WORDS]).text.split("\0")[:-1] == WORDS
    device.make_folder("runs/a")
    device.start("runs/a", ["sh", "-c", 'echo "it\'s done"; exit 3'])
    assert device.wait("runs/a", 10) == "ended"
    assert (device.pull("runs/a/status"), device.pull("runs/a/log.txt")) == (b"3\n", b"it's done\n")


def test_which_device_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert links.open_link("local").name == "local"
    assert links.open_link("adb:R58M:1").name == "adb:R58M:1"
    assert links.open_link("ssh:me@board") == Ssh("me@board")
    for device in ("", "usb", "local:1", "ssh:", "adb:"):
        assert "no such device" in error_of(links.open_link, device)
    monkeypatch.setattr(links, "adb_devices", lambda: {"one": "device", "two": "offline"})
    assert links.open_link("adb").name == "adb:one"
    assert [link.name for link in links.open_links(["local", "adb"])] == ["local", "adb:one"]
    error = error_of(links.open_links, ["adb:one", "local", "adb"])
    assert error == "--device: one device twice · got adb:one, local, adb:one · name each once"
    monkeypatch.setattr(links, "adb_devices", lambda: {"one": "device", "two": "device"})
    assert "which device? · got adb:one, adb:two · name one of them" in error_of(links.open_link, "adb")
    monkeypatch.setattr(links, "adb_devices", lambda: {"two": "unauthorized"})
    assert "no device is ready on adb" in error_of(links.open_link, "adb")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "adb: a tool is missing · install adb" in error_of(Device(Adb("one")).run, ["true"])
