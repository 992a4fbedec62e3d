"""Whatever shell a user has on a board, it is a POSIX one that runs tprune's lines."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tprune.android_runner.links import Ssh
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
    assert device.wait("runs/a", 10, every=0.05) == "ended"
    assert (device.pull("runs/a/status"), device.pull("runs/a/log.txt")) == (b"3\n", b"it's done\n")
