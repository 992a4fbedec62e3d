import sys

import pytest

from tprune import provenance


def test_the_command_is_recorded_without_folders_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "/opt/venv/bin/tprune",
        "run",
        "multi30k",
        "--set",
        "text.folder=/data/mine/ende",
        "--out",
        "/runs/a/",
        "b/c",
    ]
    monkeypatch.setattr(sys, "argv", words)
    recorded = provenance.made_by()["command"]
    assert recorded == ["tprune", "run", "multi30k", "--set", "text.folder=…/ende", "--out", "…/", "b/c"]
