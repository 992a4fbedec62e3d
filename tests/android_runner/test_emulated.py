"""The Arm64 runner, in an emulator: the same tokens and logits as here. An emulator's time says nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.android_runner.phones import DEBIAN13
from tprune import artifact
from tprune.android_runner import execution, journal
from tprune.android_runner.build import Runner
from tprune.android_runner.links import Local
from tprune.android_runner.run_file import LOGITS, Job, Mode
from tprune.android_runner.transport import Device

QEMU = DEBIAN13 / "usr/bin/qemu-aarch64"
PROCESSOR = "cortex-a76"
"""A phone's. On processors with SME, as the emulator's own is by default, ONNX Runtime takes other int8 kernels, and
logits differ by 0.04 from those here."""


@pytest.mark.parametrize(
    ("precision", "mode"), [("fp32", "whole"), ("fp32", "steps"), ("int8", "whole"), ("int8", "steps")]
)
def test_same_tokens_and_logits_on_arm64(
    runners: Callable[..., Runner],
    small_bundles: Callable[[str, str], Path],
    tmp_path: Path,
    precision: str,
    mode: Mode,
) -> None:
    if not QEMU.exists():
        pytest.skip(f"skipped, needs {QEMU}: run .ci/debian13")
    runner = runners("onnxruntime", "aarch64")
    assert "ld-linux-aarch64.so.1" in {path.name for path in runner.folder.iterdir()}
    emulated = replace(runner, command=(str(QEMU), "-cpu", PROCESSOR, *runner.command))
    bundle = artifact.read(small_bundles("onnxruntime", precision), "bundle")
    sentences = [np.random.randint(4, 40, np.random.randint(1, 13)).tolist() for _ in range(8)]
    device = Device(Local(str(tmp_path / "device")))
    job = Job(mode, 1, runs=8, logits=mode == "steps")
    tokens, logits = {}, {}
    for name, one in (("here", runners("onnxruntime")), ("emulated", emulated)):
        content = execution.execute(device, one, bundle, job, sentences, name)
        tokens[name] = [line.tokens for line in journal.parse(content).timed]
        if job.logits:
            logits[name] = np.frombuffer(device.pull(f"runs/{name}/{LOGITS}"), np.float32)
    assert tokens["here"] == tokens["emulated"]
    if job.logits:
        assert len(logits["here"]) > 8 * 30
        np.testing.assert_allclose(logits["emulated"], logits["here"], rtol=0, atol=1e-5)
