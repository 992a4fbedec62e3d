import numpy as np
import pytest
import torch

from tests.export.conftest import DECODER, Bundles, batch, build
from tprune.export import buffered, extension, graphs, tensors
from tprune.export.attention import cached_attention
from tprune.export.engine_et import ExecuTorchEngine
from tprune.export.runtime import open_bundle
from tprune.model.decode import greedy, greedy_by_steps
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine


@pytest.mark.parametrize("name", ["pre", "post"])
def test_equal_widths_are_the_same_function(name: str) -> None:
    model = build(name)
    wide = buffered.equal_widths(model)
    ids = torch.randint(0, 30, (2, 5))
    with torch.no_grad():
        wanted, got = (each(ids, decoder_input_ids=ids, use_cache=False).logits for each in (model, wide))
    assert torch.allclose(got, wanted, atol=1e-5)
    assert graphs.shapes_of(wide) == tensors.equal_shapes(graphs.shapes_of(model))
    assert graphs.shapes_of(model) != graphs.shapes_of(wide)  # the model itself is left alone


def test_equal_shapes_leave_out_what_was_pruned() -> None:
    first, second = tensors.equal_shapes(DECODER)
    assert (first["cross_attn"]["qk"], first["cross_attn"]["v"]) == (7, 7)
    assert first["self_attn"]["heads"] == second["cross_attn"]["heads"] == 0
    assert (second["self_attn"]["qk"], second["self_attn"]["v"]) == (6, 6)


@pytest.mark.parametrize("name", ["pre", "post"])
def test_the_buffers_hold_one_sentence_after_the_other(name: str) -> None:
    """Against one pass without a cache; the second sentence finds the buffers full of the first."""
    extension.register()
    model = build(name)
    ready = graphs.prepared(buffered.equal_widths(model))
    encode, step = graphs.Encode(ready, padded=False, heads_last=True), buffered.BufferedStep(ready, 9)
    for length in (6, 3):
        source, tokens = torch.randint(0, 40, (1, length)), torch.randint(0, 30, (1, length))
        with torch.no_grad():
            cross = [tensor.contiguous() for tensor in encode(source)]
            found = [step(tokens[:, at], torch.tensor([at]), *cross) for at in range(length)]
            wanted = model(source, decoder_input_ids=tokens, use_cache=False).logits
        assert torch.allclose(torch.stack(found, dim=1), wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["pre", "post"])
def test_executorch_searches_in_its_buffers(bundles: Bundles, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundles(name, "executorch")
    source, mask = batch([12, 3, 7])
    search = Search.of(build(name), limit=12)
    wanted = greedy_by_steps(TorchEngine(build(name)), source, mask, search)
    assert greedy(open_bundle(path, 1), source, mask, search) == wanted
    monkeypatch.setattr(extension, "register", _missing)  # a runtime without the LLM extension goes step by step
    plain = open_bundle(path, 1)
    assert isinstance(plain, ExecuTorchEngine)
    assert greedy(plain, source, mask, search) == wanted
    assert tensors.BUFFERED_STEP not in plain._methods


def _missing() -> None:
    raise ImportError


def test_cached_attention_is_attention_over_all_tokens_so_far() -> None:
    chance = torch.Generator().manual_seed(0)
    heads, width, value_width, length = 3, 4, 5, 6
    query = torch.randn(2, 1, heads * width, generator=chance)
    keys = torch.randn(2, length, heads, width, generator=chance)
    values = torch.randn(2, length, heads, value_width, generator=chance)
    past = [tensor[:, :-1].transpose(1, 2).contiguous() for tensor in (keys, values)]
    newest = [tensor[:, -1].reshape(2, 1, -1) for tensor in (keys, values)]
    attended, all_keys, all_values = cached_attention(query, *newest, *past, 0.3)
    for row in range(2):
        for head in range(heads):
            q = query[row, 0].view(heads, width)[head].numpy()
            weights = np.exp([0.3 * q @ keys[row, at, head].numpy() for at in range(length)])
            wanted = sum(w * values[row, at, head].numpy() for at, w in enumerate(weights / weights.sum()))
            got = attended[row, 0].view(heads, value_width)[head].numpy()
            assert np.abs(got - wanted).max() < 1e-5
    assert torch.equal(all_keys, keys.transpose(1, 2))
    assert torch.equal(all_values, values.transpose(1, 2))
