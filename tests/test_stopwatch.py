"""The time an artifact took: of all runs up to what they kept, and never part of what it is."""

import json
import os
import time
from pathlib import Path

import pytest

from tprune import artifact, stopwatch


def test_what_a_killed_run_kept_counts_and_what_it_lost_does_not(tmp_path: Path) -> None:
    now = time.time()
    (tmp_path / stopwatch.FILE).write_text(json.dumps({"before": 100.0, "since": now - 3600}))
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "weights").write_text("")
    for path in (tmp_path / "checkpoint" / "weights", tmp_path / "checkpoint"):
        os.utime(path, (now - 3000, now - 3000))
    spent = stopwatch.start(tmp_path)
    time.sleep(0.05)
    assert 700.05 <= spent() < 705
    (tmp_path / "checkpoint" / "weights").write_text("more")
    assert stopwatch.start(tmp_path)() >= 700.03  # file systems have coarse clocks


@pytest.mark.parametrize("content", [None, "", "[]", '{"before": 1}', '{"before": "x", "since": 1}'])
def test_without_an_earlier_run_it_starts_from_zero(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / stopwatch.FILE).write_text(content)
    assert stopwatch.start(tmp_path)() < 5


def test_an_artifact_that_lay_dead_for_an_hour_does_not_count_it(tmp_path: Path) -> None:
    out, now = tmp_path / "out", time.time()
    with pytest.raises(KeyboardInterrupt), artifact.create(out, "model", config={}) as partial:
        (partial / artifact.SCRATCH / "checkpoint").write_text("1")
        raise KeyboardInterrupt
    scratch = tmp_path / "out.partial" / artifact.SCRATCH
    (scratch / stopwatch.FILE).write_text(json.dumps({"before": 0.0, "since": now - 4200}))
    for path in scratch.iterdir():
        os.utime(path, (now - 3600, now - 3600))
    with artifact.create(out, "model", config={}) as partial:
        (partial / "weights").write_text("1")
    assert 600 <= artifact.read(out).manifest["seconds"] < 605


def test_equal_work_in_unequal_time_is_the_same_artifact(tmp_path: Path) -> None:
    found = []
    for name, pause in (("quick", 0.0), ("slow", 0.3)):
        with artifact.create(tmp_path / name, "model", config={}) as partial:
            (partial / "weights").write_text("1")
            time.sleep(pause)
        found.append(artifact.read(tmp_path / name))
    assert found[0].identity == found[1].identity
    assert found[1].manifest["seconds"] >= 0.3 > found[0].manifest["seconds"]
