"""The sum over components, fitted to points of a known sum and to HAT's."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import error_of
from tprune.benchmarks import additive


def point(draw: np.random.Generator) -> dict[str, float]:
    d, layers, ffn = draw.choice([512, 640]), draw.integers(1, 7), draw.choice([512, 1024, 2048])
    own = draw.choice([4, 8])
    encoder_d, encoder_ffn = draw.choice([512, 640]), draw.choice([1024, 2048])
    return {
        "encoder_embed_dim": encoder_d,
        "encoder_layer_num": 6,
        "encoder_ffn_embed_dim_avg": encoder_ffn,
        "encoder_self_attention_heads_avg": draw.choice([4, 8]),
        "decoder_embed_dim": d,
        "decoder_layer_num": layers,
        "decoder_ffn_embed_dim_avg": ffn,
        "decoder_self_attention_heads_avg": own,
        "decoder_ende_attention_heads_avg": draw.choice([4, 8]),
        "decoder_arbitrary_ende_attn_avg": draw.choice([1, 2]),
        "latency_mean_encoder": 50 + 6 * encoder_d * encoder_ffn * 1e-5,
        "latency_mean_decoder": 100 + 2 * d + layers * (30 + d * ffn * 1e-4 + 5 * own),
    }


def test_a_sum_is_recovered_with_its_parts() -> None:
    draw = np.random.default_rng(1)
    rows = [point(draw) for _ in range(400)]
    found = additive.fit(rows)["decoder"]
    assert (found["train"], found["test"]) == (320, 80)
    assert found["r2"] > 0.9999
    assert found["p90_error_percent"] < 0.1
    ffn = np.mean(
        [row["decoder_layer_num"] * row["decoder_embed_dim"] * row["decoder_ffn_embed_dim_avg"] for row in rows]
    )
    assert found["mean_ms_by_part"]["ffn"] == pytest.approx(1e-4 * ffn, rel=0.02)
    assert sum(found["mean_ms_by_part"].values()) == pytest.approx(found["mean_ms"], rel=1e-3)


def test_disturbed_encoders_are_told_apart() -> None:
    draw = np.random.default_rng(2)
    rows = [point(draw) for _ in range(200)]
    for row in itertools.islice(rows, 20):
        row["latency_mean_encoder"] *= 10
    found = additive.fit(rows)
    assert found["encoder"]["r2"] < 0.5
    assert found["undisturbed"]["encoder"]["r2"] > 0.99
    assert found["undisturbed"]["encoder"]["train"] == 144


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert error_of(additive.read, tmp_path / "x.csv.xz") == (
        f"{tmp_path}/x.csv.xz: no such file · give the folder of HAT's latency data"
    )


def test_the_raspberry_pis_decoder_is_a_sum(real_text: Path) -> None:
    folder = real_text / "hat-latency"
    if not folder.is_dir():
        pytest.skip("skipped, needs HAT's latency data in ../shared/data/hat-latency")
    found = additive.fit(additive.read(folder / "wmt14ende_cpu_raspberrypi.csv.xz"))
    assert (found["decoder"]["train"], found["decoder"]["test"]) == (1600, 400)
    assert found["decoder"]["r2"] >= 0.97
    assert found["decoder"]["median_error_percent"] <= 2
