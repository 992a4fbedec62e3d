"""A dense model's engines, a peer and a pruned model's bundle in one run."""

from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks.result_table import peer_tables
from tprune.delivery_config import Export
from tprune.errors import InputError
from tprune.export.bundle import export
from tprune.model import checkpoint
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration

pytest.importorskip("ctranslate2", reason="skipped, needs pip install -e '.[peers]'")

VOCABULARY, STEPS = 60, 6


def random_model(out: Path, **sizes: int) -> Artifact:
    with artifact.create(out, "model", config=dict(sizes)) as partial:
        built = TPruneForConditionalGeneration(dense_config(**sizes, vocab_size=VOCABULARY, max_positions=64))
        checkpoint.save(built, partial)
    return artifact.read(out, "model")


def test_a_pruned_model_is_compared_with_the_dense_one_in_the_peer(tmp_path: Path) -> None:
    from tprune.benchmarks import decode_speed, lineup
    from tprune.benchmarks.peers import ct2_format

    torch.manual_seed(1)
    dense = random_model(tmp_path / "dense", d_model=32, heads=4, ffn=48, encoder_layers=2, decoder_layers=2)
    pruned = random_model(tmp_path / "pruned", d_model=24, heads=3, ffn=16, encoder_layers=1, decoder_layers=1)
    bundle = export(pruned.path, tmp_path / "bundles" / "half", "onnxruntime", Export(), precision="int8")
    sentences = [np.random.randint(4, VOCABULARY, np.random.randint(2, 12)).tolist() for _ in range(3)]
    rows = decode_speed.measure(
        "t",
        dense,
        sentences,
        STEPS,
        {lineup.bundled(bundle): [ids[::-1] for ids in sentences]},
        engines=["onnxruntime"],
        peers=[ct2_format.PEER],
        threads_of_each=[1],
        seconds=0,
    )
    assert [(row.engine, row.precision, row.model) for row in rows] == [
        ("onnxruntime", "fp32", "dense"),
        ("onnxruntime", "int8", "dense"),
        ("onnxruntime", "int8-block", "dense"),
        ("ctranslate2", "fp32", "dense"),
        ("ctranslate2", "int8", "dense"),
        ("onnxruntime", "int8", "half"),
    ]
    times = {(row.engine, row.precision, row.model): row.latency_ms for row in rows}
    for row in rows:
        said = row.model_dump()
        assert (row.speedup is None) == (row.engine == "ctranslate2")
        assert row.baseline == (None if row.speedup is None else "ctranslate2")
        assert said["target_tokens"] == STEPS
        assert ("floor_ms" in said) == ("same_as_peer" in said) == row.dense  # other weights, other translations
    half = next(row for row in rows if row.model == "half")
    assert (half.model_hash, half.bundle_hash) == (pruned.identity, bundle.identity)
    ours, theirs = (
        median(times[key].samples)  # type: ignore[union-attr]
        for key in (("onnxruntime", "int8", "half"), ("ctranslate2", "int8", "dense"))
    )
    assert half.speedup == pytest.approx(theirs / ours, rel=2e-3)  # in the same arithmetic; samples are rounded
    with pytest.raises(InputError, match=r"models that cannot be told apart · got onnxruntime int8 half"):
        decode_speed.measure("t", dense, sentences, STEPS, {lineup.bundled(bundle): sentences for _ in range(2)})
    table = peer_tables(rows)[0]
    assert table.heads[:2] == ("Plan", "Engine")
    assert {line[0] for line in table.lines} == {"dense", "half"}
    assert peer_tables([row for row in rows if row.dense])[0].heads[0] == "Engine"
