"""The profile of a model's bundles: every graph of every engine and precision, whose operators' shares add up."""

from pathlib import Path

import pytest
import torch

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import decode_profile, sizes
from tprune.errors import InputError
from tprune.model import checkpoint
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration


def small(out: Path) -> Artifact:
    torch.manual_seed(3)
    config = dense_config(d_model=32, heads=4, ffn=48, encoder_layers=1, decoder_layers=1, vocab_size=60)
    with artifact.create(out, "model", config={}) as partial:
        checkpoint.save(TPruneForConditionalGeneration(config), partial)
    return artifact.read(out, "model")


def test_every_bundle_has_its_graphs_and_their_operators(tmp_path: Path) -> None:
    found = decode_profile.profile(small(tmp_path / "model"), tmp_path / "bundles", 1, ["onnxruntime"])
    assert [(one["engine"], one["precision"]) for one in found] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
        ("onnxruntime", "int8-block"),
    ]
    for one in found:
        for graph in one["graphs"]:
            times = [entry["microseconds"] for entry in graph["operators"] if entry["microseconds"] is not None]
            shares = [entry["share"] for entry in graph["operators"] if entry["share"] is not None]
            assert sum(shares) == pytest.approx(sum(times) / graph["whole_microseconds"])
    timed = {graph["name"] for one in found for graph in one["graphs"] if graph["milliseconds"]}
    assert {"encode", "decode_step", "translate"} <= timed


def test_only_known_sizes_are_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such size · got huge · wanted base or tiny"):
        sizes.random_model("huge", tmp_path / "model")
    assert not (tmp_path / "model").exists()
