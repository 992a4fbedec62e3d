"""CTranslate2 translates with our weights as we do, so that a comparison of times compares the same work."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tprune.errors import ModelError
from tprune.model.decode import greedy
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
    from tprune.benchmarks.peers import ct2

    built = model(**changes)
    search = Search.of(built, max_new_tokens=12)
    ct2.convert(built, tmp_path / "ct2", "fp32")
    translate = ct2.open_translator(tmp_path / "ct2", 1, "fp32", search)
    for _ in range(30):
        source = np.random.randint(4, 50, (1, np.random.randint(1, 12)))
        assert translate(source[0].tolist()) == greedy(TorchEngine(built), source, np.ones_like(source), search)[0]


def test_its_int8_form_is_smaller_and_runs(tmp_path: Path) -> None:
    from tprune.benchmarks.peers import ct2

    built = model(d_model=64, ffn=256)
    search = Search.of(built, max_new_tokens=12)
    for precision in ("fp32", "int8"):
        ct2.convert(built, tmp_path / precision, precision)
    sizes = {precision: (tmp_path / precision / "model.bin").stat().st_size for precision in ("fp32", "int8")}
    assert sizes["int8"] < 0.5 * sizes["fp32"]
    found = ct2.open_translator(tmp_path / "int8", 1, "int8", search)([5, 6, 7, 1])
    assert 0 < len(found) <= 12
    assert all(0 <= token < 60 for token in found)


def test_a_pruned_model_is_refused(tmp_path: Path) -> None:
    from tprune.benchmarks.peers import ct2

    built = model()
    built.config.decoder_shapes[0]["self_attn"]["qk"] = 3
    with pytest.raises(ModelError, match=r"^CTranslate2's format does not know this model · wanted heads"):
        ct2.convert(built, tmp_path / "ct2", "fp32")
    assert not (tmp_path / "ct2").exists()
