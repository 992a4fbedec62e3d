"""Peers translate with our weights as we do, so that a comparison of times compares the same work."""

import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.artifacts import error_of
from tprune.errors import ModelError
from tprune.model.decode import greedy
from tprune.model.decode import translate as translate_all
from tprune.model.search import Search
from tprune.model.shape import dense_config
from tprune.model.torch_engine import TorchEngine
from tprune.model.transformer import TPruneForConditionalGeneration

pytest.importorskip("ctranslate2", reason="skipped, needs pip install -e '.[peers]'")


def model(**changes: object) -> TPruneForConditionalGeneration:
    sizes = {"d_model": 32, "heads": 4, "ffn": 48, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 60}
    built = TPruneForConditionalGeneration(dense_config(**(sizes | changes)))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    built.eval()
    return built


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "post"},
        {"activation": "gelu", "positions": "learned", "position_offset": 2},
        {"embedding_scale": 1.0, "embedding_norm": True, "output_bias": True},
        {"encoder_layers": 3, "decoder_layers": 1, "heads": 2, "target_vocab_size": 50},
    ],
)
def test_it_translates_as_we_do(changes: dict[str, object], tmp_path: Path) -> None:
    from tprune.benchmarks.peers import ct2, ct2_format

    built = model(**changes)
    search = Search.of(built, max_new_tokens=12)
    ct2_format.convert(built, tmp_path / "ct2", "fp32")
    translate = ct2.open_translator(tmp_path / "ct2", 1, "fp32", search)
    for _ in range(30):
        source = np.random.randint(4, 50, (1, np.random.randint(1, 12)))
        assert translate(source[0].tolist()) == greedy(TorchEngine(built), source, np.ones_like(source), search)[0]


def test_its_int8_form_is_smaller_and_runs(tmp_path: Path) -> None:
    from tprune.benchmarks.peers import ct2, ct2_format

    built = model(d_model=64, ffn=256)
    search, before = Search.of(built, max_new_tokens=12), deepcopy(built.state_dict())
    for precision in ("fp32", "int8"):
        ct2_format.convert(built, tmp_path / precision, precision)
    assert all(torch.equal(weight, before[name]) for name, weight in built.state_dict().items())  # the next peer's turn
    sizes = {precision: (tmp_path / precision / "model.bin").stat().st_size for precision in ("fp32", "int8")}
    assert sizes["int8"] < 0.5 * sizes["fp32"]
    found = ct2.open_translator(tmp_path / "int8", 1, "int8", search)([5, 6, 7, 1])
    assert 0 < len(found) <= 12
    assert all(0 <= token < 60 for token in found)


@pytest.mark.parametrize(
    "name", ["hf-generate", *(pytest.param(name, marks=pytest.mark.slow) for name in ("torch-compile", "optimum-onnx"))]
)
def test_other_peers_translate_as_we_do(name: str, tmp_path: Path) -> None:
    from tprune.benchmarks.peers.table import PEERS

    (peer,) = (peer for peer in PEERS if peer.name == name)
    missing = peer.missing()
    if missing is not None:
        pytest.skip(f"skipped, needs {missing}")
    built = model(decoder_layers=1, max_positions=64)
    search = Search.of(built, max_new_tokens=12)
    peer.convert(built, tmp_path / "peer", "fp32")
    before = torch.get_num_threads()
    translate = peer.open(tmp_path / "peer", 1, "fp32", search)
    torch.set_num_threads(before)
    assert sum(file.stat().st_size for file in (tmp_path / "peer").glob(peer.weights)) > 0
    assert peer.version()[0].isdigit()
    found = set()
    for length in (1, 2, 5, 11, 12):
        source = np.random.randint(4, 50, (1, length))
        expected = greedy(TorchEngine(built), source, np.ones_like(source), search)[0]
        assert translate(source[0].tolist()) == expected
        found.add(tuple(expected))
    assert len(found) > 1


def test_generate_translates_a_padded_batch_as_we_do() -> None:
    from tprune.benchmarks.peers import hf

    built, ids = model(), np.random.randint(4, 50, (6, 9))
    mask = (np.arange(9) < np.random.randint(1, 10, (6, 1))).astype(np.int64)
    source = ids * mask
    for beams in (1, 4):
        search = Search.of(built, beams=beams, length_penalty=0.6, max_new_tokens=12)
        ours = translate_all(TorchEngine(built), [row[row > 0].tolist() for row in source], search)
        assert hf.generate(built, source, mask, search) == ours


@pytest.mark.parametrize(
    "changes", [{}, {"norm": "post", "activation": "silu"}, {"embedding_scale": 1.0, "output_bias": True}]
)
def test_hugging_faces_own_architectures_hold_our_model(changes: dict[str, object]) -> None:
    from tprune.benchmarks.peers.hf_form import to_hugging_face

    built = model(**changes)
    other = to_hugging_face(built)
    assert other.config.model_type == ("marian" if changes.get("norm") == "post" else "pegasus")
    source, target = torch.randint(4, 50, (3, 9)), torch.randint(4, 50, (3, 7))
    with torch.no_grad():
        expected = built(source, decoder_input_ids=target).logits
        found = other(source, decoder_input_ids=target).logits
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "changes", [{"positions": "learned"}, {"tie_output": False}, {"norm": "post", "final_norm": True}]
)
def test_what_they_do_not_hold_is_refused(changes: dict[str, object]) -> None:
    from tprune.benchmarks.peers.hf_form import to_hugging_face

    with pytest.raises(ModelError, match=r"^Hugging Face's Pegasus or Marian does not know this model"):
        to_hugging_face(model(**changes))


def test_a_peer_that_cannot_run_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from tprune.benchmarks.peers.table import at_hand

    monkeypatch.delenv("TPRUNE_OPTIMUM_PYTHON", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    told: list[str] = []
    assert [peer.name for peer in at_hand(told.append)] == ["ctranslate2", "hf-generate"]
    assert told[0] == "torch-compile is skipped, needs a C++ compiler: g++, clang++, c++"
    assert told[1].startswith("optimum-onnx is skipped, needs TPRUNE_OPTIMUM_PYTHON: the interpreter of")
    assert len(told) == 2
    assert [peer.name for peer in at_hand(told.append, ["ctranslate2", "optimum-onnx"])] == ["ctranslate2"]
    assert told[2:] == told[1:2]
    assert error_of(at_hand, told.append, ["ctranslate2", "marian"]) == (
        "no such peer · got marian · wanted ctranslate2 | hf-generate | torch-compile | optimum-onnx · use one of these"
    )


def test_an_interpreter_without_optimum_is_left_out_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from tprune.benchmarks.peers import optimum_onnx

    monkeypatch.setenv("TPRUNE_OPTIMUM_PYTHON", sys.executable)
    missing = optimum_onnx.PEER.missing()
    assert missing is not None
    assert missing.startswith("another TPRUNE_OPTIMUM_PYTHON: ModuleNotFoundError: No module named 'optimum")


def test_a_pruned_model_is_refused(tmp_path: Path) -> None:
    from tprune.benchmarks.peers import ct2_format

    built = model()
    built.config.decoder_shapes[0]["self_attn"]["qk"] = 3
    with pytest.raises(ModelError, match=r"^CTranslate2's format does not know this model · wanted heads"):
        ct2_format.convert(built, tmp_path / "ct2", "fp32")
    assert not (tmp_path / "ct2").exists()
