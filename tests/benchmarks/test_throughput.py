"""Whole passes over a test set, the peer at the same precision as the baseline."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tprune import artifact
from tprune.artifact import Artifact
from tprune.model import checkpoint
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration

pytest.importorskip("ctranslate2", reason="skipped, needs pip install -e '.[peers]'")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A small random model; its translations end."""
    torch.manual_seed(1)
    sizes = {"d_model": 32, "heads": 4, "ffn": 48, "encoder_layers": 1, "decoder_layers": 1}
    built = TPruneForConditionalGeneration(dense_config(**sizes, vocab_size=60, max_positions=64, output_bias=True))
    with torch.no_grad():
        assert built.output_bias is not None
        built.output_bias[built.config.eos_token_id] = 2
    out = tmp_path_factory.mktemp("throughput") / "model"
    with artifact.create(out, "model", config={}) as partial:
        checkpoint.save(built, partial)
    return artifact.read(out, "model")


def test_rows_of_a_throughput_run(model: Artifact) -> None:
    from tprune.benchmarks import throughput

    sentences = [np.random.randint(4, 60, np.random.randint(1, 12)).tolist() for _ in range(70)]
    rows = throughput.measure("t", "random", "test", model, sentences, rounds=6, seconds=0)
    engines = {"pytorch": ("fp32",), "onnxruntime": ("fp32", "int8", "int8-block"), "ctranslate2": ("fp32", "int8")}
    assert [(row.engine, row.precision, row.threads) for row in rows] == [
        (engine, precision, threads) for threads in (1, 2) for engine in engines for precision in engines[engine]
    ]
    for row in rows:
        said = row.model_dump()
        speeds = said["sentences_per_second"]
        assert speeds["p50"] == pytest.approx(np.median(speeds["samples"]), abs=1e-3)  # the samples are rounded
        assert len(said["sentences_per_second"]["samples"]) == 6
        assert (row.speedup is None) == (row.engine == "ctranslate2")
        assert row.model_hash == model.identity
        assert (row.bundle_hash is not None) == (row.engine == "onnxruntime")
        if row.precision == "fp32":
            assert said["same_as_peer"] == 1.0  # the same translations in batches of another make
        assert not any("samples" in reason for reason in row.valid.reasons)  # six passes are enough, but too quick
        assert any(reason.endswith("s timed, at least 1 s wanted") for reason in row.valid.reasons)


def test_footprint_of_a_process_of_each(model: Artifact, tmp_path: Path) -> None:
    from tprune.benchmarks import footprint

    source = [5, 9, 17, 30, 1]
    rows = footprint.measure("f", "random", model, source, engines=["pytorch"], processes=1)
    found = {(row.engine, row.precision): row.model_dump() for row in rows}
    assert set(found) == {("pytorch", "fp32"), ("ctranslate2", "fp32"), ("ctranslate2", "int8")}
    assert found["pytorch", "fp32"]["translation"] == found["ctranslate2", "fp32"]["translation"]
    for said in found.values():
        assert said["valid"]["reasons"][0] == "1 processes, at least 3 wanted"
        times = {key: value["p50"] for key, value in said.items() if key.endswith("_ms") and value is not None}
        assert 0 < times["load_ms"] < times["first_token_ms"] < times["whole_first_token_ms"]
        assert times["first_token_ms"] < times["first_sentence_ms"] < times["whole_first_sentence_ms"]
        assert 0 < said["engine_memory_bytes"]["p50"] < said["peak_memory_bytes"]["p50"]
    # the peer's process has no PyTorch in it
    assert (
        found["ctranslate2", "fp32"]["peak_memory_bytes"]["p50"] < found["pytorch", "fp32"]["peak_memory_bytes"]["p50"]
    )
