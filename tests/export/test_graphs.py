import pytest
import torch

from tests.export.conftest import DECODER, GONE, build
from tprune.errors import ExportError
from tprune.export import graphs, tensors


def test_names_leave_out_what_was_pruned() -> None:
    assert tensors.cross_names(DECODER) == ["cross_keys_0", "cross_values_0"]
    assert tensors.past_names(DECODER) == ["past_keys_1", "past_values_1"]
    rest = ["past_keys_1", "past_values_1", "cross_keys_0", "cross_values_0"]
    assert tensors.step_inputs(DECODER, padded=True) == ["tokens", "position", "source_mask", *rest]
    assert tensors.step_inputs(DECODER, padded=False) == ["tokens", "position", *rest]
    assert tensors.step_outputs(DECODER) == ["logits", "new_keys_1", "new_values_1"]


def test_cache_shapes_have_each_layers_own_widths() -> None:
    assert tensors.cache_shapes(DECODER, "self_attn", 2, 0) == [(2, 1, 0, 6), (2, 1, 0, 2)]
    assert tensors.cache_shapes(DECODER, "cross_attn", 1, 9) == [(1, 3, 9, 5), (1, 3, 9, 7)]


@pytest.mark.parametrize("name", ["pre", "post"])
def test_steps_give_the_logits_of_one_uncached_pass(name: str) -> None:
    model = build(name)
    packed = graphs.prepared(model)
    encode, step = graphs.Encode(packed, padded=True), graphs.DecodeStep(packed, padded=True)
    source, tokens = torch.randint(0, 40, (2, 6)), torch.randint(0, 30, (2, 5))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    cross = encode(source, mask)
    past = [torch.zeros(shape) for shape in tensors.cache_shapes(step.shapes, "self_attn", 2, 0)]
    found = []
    for position in range(5):
        now = tokens[:, position]
        logits, *past = step(now, torch.tensor([position]), mask, *past, *cross)
        found.append(logits)
    wanted = model(source, mask, decoder_input_ids=tokens, use_cache=False).logits
    assert torch.allclose(torch.stack(found, dim=1), wanted, atol=1e-5)


def test_a_model_that_never_looks_at_the_source_is_refused() -> None:
    model = build("pre")
    model.config.decoder_shapes = [{**shape, "cross_attn": GONE} for shape in DECODER]
    with pytest.raises(ExportError, match=r"^no decoder layer attends to the source · keep at least one"):
        graphs.Encode(model, padded=True)
