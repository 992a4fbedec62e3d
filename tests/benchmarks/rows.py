"""Handmade result rows for the tests."""

from typing import Any

from tprune.benchmarks.record import Row

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
MADE_BY = {"tprune": "0.1.0", "commit": "0123abc", "dirty": False, "command": ["tprune", "bench"]}
PHONE = {"kind": "phone", "cpu": "Cortex-X3", "device": "Pixel 8"}
HOST = {"kind": "host-x86", "cpu": "Xeon 8370C"}
EMULATED = {"kind": "emulated-arm64", "cpu": "qemu"}


def entry(**changes: Any) -> dict[str, Any]:
    """One row as it stands in the JSON file: the dense model on the host."""
    values = {
        "schema": 1,
        "experiment": "handmade",
        "dataset": "multi30k-ende",
        "split": "test.2016",
        "model": "dense",
        "seed": 1,
        "engine": "onnxruntime",
        "engine_version": "1.31.1",
        "precision": "fp32",
        "threads": 1,
        "decode": "greedy",
        "environment": HOST,
        "parameters": 9_000_000,
        "size_bytes": 36_000_000,
        "latency_ms": {"p50": 20.0, "p90": 28.0, "samples": [10.0, 20.0, 30.0]},
        "baseline": "dense onnxruntime fp32, 1 thread",
        "speedup": 1.0,
        "bleu": 38.0,
        "bleu_signature": SIGNATURE,
        "chrf": 60.1,
        "bleu_loss_percent": 0.0,
        "bleu_loss_upper_percent": 0.0,
        "made_by": MADE_BY,
        "valid": {"ok": True, "reasons": []},
    }
    return {**values, **changes}


def row(**changes: Any) -> Row:
    """A validated row; see `entry`."""
    return Row.model_validate(entry(**changes))


def pruned(speedup: float, loss_percent: float, **changes: Any) -> Row:
    """A pruned model's row with consistent latency and BLEU."""
    median = 20.0 / speedup
    return row(
        **{
            "model": f"half-{speedup:g}",
            "speedup": speedup,
            "bleu": 38.0 * (1 - loss_percent / 100),
            "speedup_lower": speedup * 0.97,
            "speedup_upper": speedup * 1.03,
            "bleu_loss_percent": loss_percent,
            "bleu_loss_upper_percent": loss_percent + 0.6,
            "parameters": 5_000_000,
            "latency_ms": {"p50": median, "p90": median * 1.4, "samples": [median * f for f in (0.5, 1, 1.5)]},
            **changes,
        }
    )
