import sys

import pytest

from tprune import provenance


def test_the_seed_of_a_model_by_what_made_it() -> None:
    assert provenance.seed({"seed": 3, "steps": 5}) == 3  # recovery
    assert provenance.seed({"learn": {"seed": 2}, "model": {"seed": 1}}) == 2  # dense training
    assert provenance.seed({"source": "opus-mt", "languages": []}) is None  # conversion


def test_the_command_is_recorded_without_folders_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "/opt/venv/bin/tprune",
        "run",
        "multi30k",
        "--set",
        "text.folder=/data/mine/ende",
        "--set",
        'targets=[{table="/data/my tables/one", budget="parameters/no path"}]',
        "--out",
        "/runs/a/",
        "b/c",
    ]
    monkeypatch.setattr(sys, "argv", words)
    recorded = provenance.made_by()["command"]
    assert recorded[:5] == ["tprune", "run", "multi30k", "--set", "text.folder=…/ende"]
    assert recorded[5:7] == ["--set", 'targets=[{table="…/one", budget="parameters/no path"}]']
    assert recorded[7:] == ["--out", "…/", "b/c"]
