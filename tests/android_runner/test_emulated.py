"""The Arm64 runner, in an emulator: the same tokens as here. An emulator's time says nothing and is not looked at."""

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
from tprune.android_runner.run_file import Job, Mode
from tprune.android_runner.transport import Device
from tprune.export import description
from tprune.export.runtime import open_bundle
from tprune.model import decode
from tprune.model.search import Search

QEMU = DEBIAN13 / "usr/bin/qemu-aarch64"


@pytest.mark.parametrize(("precision", "mode"), [("fp32", "whole"), ("fp32", "steps"), ("int8", "whole")])
def test_same_tokens_on_arm64(
    runners: Callable[[str, str], Runner],
    small_bundles: Callable[[str, str], Path],
    tmp_path: Path,
    precision: str,
    mode: Mode,
) -> None:
    if not QEMU.exists():
        pytest.skip(f"skipped, needs {QEMU}: run .ci/debian13")
    runner = runners("onnxruntime", "aarch64")
    assert "ld-linux-aarch64.so.1" in {path.name for path in runner.folder.iterdir()}
    emulated = replace(runner, command=(str(QEMU), *runner.command))
    bundle = artifact.read(small_bundles("onnxruntime", precision), "bundle")
    sentences = [np.random.randint(4, 40, np.random.randint(1, 13)).tolist() for _ in range(8)]
    device = Device(Local(str(tmp_path / "device")))
    content = execution.execute(device, emulated, bundle, Job(mode, 1, runs=8), sentences, "emulated")
    search = Search(**description.read(bundle.path).search)
    translate = decode.one_by_one(open_bundle(bundle.path, 1), search)
    assert [one.tokens for one in journal.parse(content).timed] == [translate(ids) for ids in sentences]
