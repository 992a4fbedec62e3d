"""Medians, and what makes figures of fresh processes quotable."""

from typing import Any

import pytest

pytest.importorskip("ctranslate2", reason="skipped, needs pip install -e '.[peers]'")

from tprune.benchmarks.footprint import fields


def took(whole_ms: float, translation: list[int]) -> dict[str, Any]:
    return {
        "whole_first_token_ms": whole_ms,
        "imports_memory_bytes": 100,
        "peak_memory_bytes": 100 + int(whole_ms),
        "translation": translation,
    }


def test_medians_and_raw_samples() -> None:
    found = fields([took(50, [3]), took(40, [3]), took(48, [3])])
    assert found["whole_first_token_ms"] == {"p50": 48, "samples": [50, 40, 48]}
    assert found["engine_memory_bytes"] == {"p50": 48, "samples": [50, 40, 48]}
    assert found["translation"] == [3]
    assert found["valid"] == {"ok": True, "reasons": []}


def test_doubts() -> None:
    assert fields([took(50, [3]), took(20, [4])])["valid"] == {
        "ok": False,
        "reasons": [
            "2 processes, at least 3 wanted",
            "times to the first token lie 86% apart, at most 50% wanted",
            "the processes translate differently",
        ],
    }
