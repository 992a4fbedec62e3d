"""Cut and masked models agree for every plan; what is dropped is the identity."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

from tests.sparsity.small_models import EOS, attention, config, configs, logits, model_of, plans
from tprune.errors import PlanError
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines, plan, surgery

PRE, POST = config(), config(norm="post", final_norm=False, embedding_norm=True, positions="learned")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_prune_equals_mask_for_every_plan(data: st.DataObject) -> None:
    shapes = data.draw(configs())
    chosen = data.draw(plans(shapes))
    model = model_of(shapes)
    before = copy.deepcopy(model.state_dict())
    cut, masked = surgery.prune(model, chosen), surgery.mask(model, chosen)
    assert (logits(cut) - logits(masked)).abs().max() < 1e-5
    assert cut.num_parameters() <= masked.num_parameters()
    width = len(chosen.keep.get("hidden", range(shapes.d_model)))
    vocabulary = plan.shapes_of(shapes)["vocabulary"]
    expected = {"d_model": width, "vocabulary": vocabulary, **plan.pruned_shapes(shapes, chosen)}
    assert plan.shapes_of(cut.config) == expected
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_dropped_line_matters(data: st.DataObject) -> None:
    """Masking is no empty promise: the kept lines alone decide, and zeroing by hand gives the same."""
    shapes = data.draw(configs(gone=False))
    model = model_of(shapes)
    index = data.draw(st.integers(0, len(shapes.decoder_shapes or []) - 1))
    part = model.decoder.layers[index].cross_attn
    assert part is not None
    keep = tuple(sorted(data.draw(st.sets(st.integers(0, part.heads - 1), min_size=1, max_size=part.heads))))
    chosen = plan.make("heads", shapes, {f"decoder.{index}.cross_attn.head": keep}, {})
    cut = surgery.prune(model, chosen)
    with torch.no_grad():
        for head in set(range(part.heads)) - set(keep):
            part.o_proj.weight[:, head * part.v : (head + 1) * part.v] = 0
    assert (logits(cut) - logits(model)).abs().max() < 1e-5


@pytest.mark.parametrize("shapes", [PRE, POST], ids=["pre", "post"])
def test_keeping_all_is_the_identity_bit_for_bit(shapes: TPruneConfig) -> None:
    model = model_of(shapes)
    everything = {group.name: tuple(range(group.size)) for group in lines.groups(shapes)}
    for keep in ({}, everything):
        chosen = plan.make("all", shapes, keep, {})
        for same in (surgery.prune(model, chosen), surgery.mask(model, chosen)):
            assert same is not model
            assert same.state_dict().keys() == model.state_dict().keys()
            assert all(torch.equal(same.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
            assert torch.equal(logits(same), logits(model))


SUBLAYERS = [("encoder", "self_attn"), ("encoder", "ffn"), ("decoder", "self_attn"), ("decoder", "cross_attn"),
             ("decoder", "ffn")]  # fmt: skip


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(("stack", "sublayer"), SUBLAYERS)
@pytest.mark.parametrize("shapes", [PRE, POST], ids=["pre", "post"])
def test_a_dropped_sublayer_is_the_identity(shapes: TPruneConfig, stack: str, sublayer: str, layer: int) -> None:
    model = model_of(shapes)
    names = ["self_attn", "ffn"] if stack == "encoder" else ["self_attn", "cross_attn", "ffn"]
    keep = tuple(unit for unit, name in enumerate(names) if name != sublayer)
    chosen = plan.make("without", shapes, {f"{stack}.{layer}.sublayer": keep}, {})
    cut, masked, untouched = surgery.prune(model, chosen), surgery.mask(model, chosen), logits(model)
    skip(model, f"{stack}.layers.{layer}.{sublayer}")
    assert (logits(cut) - logits(model)).abs().max() < 1e-5
    assert (logits(masked) - logits(model)).abs().max() < 1e-5
    assert (untouched - logits(model)).abs().max() > 1e-2


@pytest.mark.parametrize("kept", [(0, 2), (1, 2), (0, 1), (1,), (2,)])
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_dropped_layers_are_the_identity(stack: str, kept: tuple[int, ...]) -> None:
    deep = config(depth=3)
    model = model_of(deep)
    cut = surgery.prune(model, plan.make("without", deep, {f"{stack}.layer": kept}, {}))
    assert len(cut.get_submodule(f"{stack}.layers")) == len(kept)
    for layer in {0, 1, 2} - set(kept):
        for sublayer in ("self_attn", "cross_attn", "ffn")[:: 1 if stack == "decoder" else 2]:
            skip(model, f"{stack}.layers.{layer}.{sublayer}")
    assert (logits(cut) - logits(model)).abs().max() < 1e-5


def skip(model: TPruneForConditionalGeneration, name: str) -> None:
    """Replace a module's output by its input."""

    def identity(_module: Any, inputs: tuple[Any, ...], _output: Tensor) -> Tensor:
        return inputs[0]  # type: ignore[no-any-return]

    model.get_submodule(name).register_forward_hook(identity)


WIDE = TPruneConfig(
    vocab_size=23,
    d_model=16,
    encoder_shapes=[{"self_attn": attention(2, 4, 3), "ffn": 6}, {"self_attn": attention(1, 3, 2), "ffn": 4}],
    decoder_shapes=[
        {"self_attn": attention(2, 2, 3), "cross_attn": attention(3, 3, 2), "ffn": 5},
        {"self_attn": attention(1, 2, 3), "cross_attn": attention(2, 2, 2), "ffn": 5},
    ],
    max_positions=32,
)
MIXED = {
    "encoder.0.self_attn.qk": (0, 3, 4, 5),
    "encoder.0.ffn": (1, 5),
    "encoder.1.sublayer": (1,),
    "decoder.0.sublayer": (1, 2),
    "decoder.0.cross_attn.head": (0, 2),
    "decoder.0.cross_attn.vo": (1, 4),
    "decoder.1.ffn": (4,),
}


def test_a_pruned_model_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    model = model_of(WIDE)
    model.generation_config.num_beams = 2
    cut = surgery.prune(model, plan.make("mixed", WIDE, MIXED, {}))
    assert cut.config.decoder_shapes == [
        {"self_attn": attention(0, 2, 3), "cross_attn": attention(2, 3, 1), "ffn": 5},
        {"self_attn": attention(1, 2, 3), "cross_attn": attention(2, 2, 2), "ffn": 1},
    ]
    cut.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is TPruneForConditionalGeneration
    assert torch.equal(logits(loaded), logits(cut))
    source = torch.randint(2, 23, (3, 6))
    found = [each.generate(source, max_new_tokens=8, do_sample=False) for each in (cut, loaded)]
    assert torch.equal(found[0], found[1])
    assert loaded.generation_config.num_beams == 2
    assert found[0].shape[0] == 3
    assert (found[0][:, 1:] != EOS).any()


def test_the_kept_lines_by_hand() -> None:
    model = model_of(WIDE)
    cut = surgery.prune(model, plan.make("mixed", WIDE, MIXED, {}))
    old, new = model.state_dict(), cut.state_dict()
    attention_name = "encoder.layers.0.self_attn"
    rows = torch.tensor([0, 3, 4, 5])
    assert torch.equal(new[f"{attention_name}.q_proj.weight"], old[f"{attention_name}.q_proj.weight"][rows])
    assert torch.equal(new[f"{attention_name}.k_proj.bias"], old[f"{attention_name}.k_proj.bias"][rows])
    assert torch.equal(new["encoder.layers.0.ffn.fc1.weight"], old["encoder.layers.0.ffn.fc1.weight"][[1, 5]])
    assert torch.equal(new["encoder.layers.0.ffn.fc2.weight"], old["encoder.layers.0.ffn.fc2.weight"][:, [1, 5]])
    cross = "decoder.layers.0.cross_attn"
    assert torch.equal(new[f"{cross}.o_proj.weight"], old[f"{cross}.o_proj.weight"][:, [1, 4]])
    assert torch.equal(new[f"{cross}.q_proj.weight"], old[f"{cross}.q_proj.weight"][[0, 1, 2, 6, 7, 8]])
    assert "encoder.layers.1.self_attn.q_proj.weight" not in new


def test_the_training_mode_is_kept_and_a_foreign_plan_is_refused() -> None:
    model = model_of(PRE).train()
    chosen = plan.make("all", PRE, {}, {})
    assert surgery.prune(model, chosen).training
    assert not surgery.prune(model.eval(), chosen).training
    for action in (surgery.prune, surgery.mask):
        with pytest.raises(PlanError, match="this plan was made for another model"):
            action(model_of(WIDE), chosen)
