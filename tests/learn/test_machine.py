"""What makes training quick leaves it what it was: bf16 products, memory that is kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.learn.test_trainer import learn, run
from tprune.learn.machine import half, kept_memory


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"bf16": True}, True), ({"avx2": True}, False)],
)
def test_auto_asks_the_processor(monkeypatch: pytest.MonkeyPatch, instructions: dict[str, Any], expected: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert half("auto") is expected
    assert half("bf16") is True
    assert half("fp32") is False


def test_bf16_learns_what_fp32_learns(tmp_path: Path) -> None:
    settings = {"steps": 40, "learning_rate": 3e-3, "checkpoint_every": 40}
    model, single = run(tmp_path / "fp32", learn(precision="fp32", **settings))
    other, mixed = run(tmp_path / "bf16", learn(precision="bf16", **settings))
    assert {tensor.dtype for tensor in other.state_dict().values()} == {torch.float32}
    assert any(not torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
    before, after = single[-1]["eval_loss"], mixed[-1]["eval_loss"]
    assert after == pytest.approx(before, rel=0.02)


def test_kept_memory_is_given_back() -> None:
    def resident_kib() -> int:
        status = Path("/proc/self/status")
        if not status.is_file():
            pytest.skip("skipped, needs /proc")
        return int(status.read_text().split("VmRSS:")[1].split()[0])

    before = resident_kib()
    with kept_memory():
        tensors = [torch.ones(1 << 18) for _ in range(200)]  # 1 MiB each
        del tensors
        assert resident_kib() > before + 150_000
    assert resident_kib() < before + 100_000
