"""Training in several processes is training in one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.learn.two_processes import train


@pytest.mark.slow
@pytest.mark.parametrize("soft_targets", [0, 5])
def test_two_processes_train_as_one_that_accumulates(tmp_path: Path, soft_targets: int) -> None:
    """Losses, validation losses and the averaged weights agree, on both ranks."""
    alone = train(tmp_path, 2, soft_targets, "alone")
    shutil.rmtree(tmp_path / "scratch")
    (tmp_path / "scratch" / "checkpoint-6").mkdir(parents=True)  # a truncated one, for both to step over
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "tests.learn.two_processes", str(tmp_path), "1", str(soft_targets)],
        check=True, cwd=ROOT, env=environment, timeout=120,
    )  # fmt: skip
    for rank in (0, 1):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert [entry["step"] for entry in found["history"]] == [entry["step"] for entry in alone["history"]]
        for entry, expected in zip(found["history"], alone["history"], strict=True):
            assert entry == pytest.approx(expected, abs=1e-3)
        assert found["weights"] == pytest.approx(alone["weights"], abs=1e-3)
