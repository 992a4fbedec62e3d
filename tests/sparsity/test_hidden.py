"""Narrower residual streams: what the cut model computes, written another way."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.sparsity.small_models import config, configs, logits, model_of
from tprune.model import checkpoint
from tprune.model.layers import sinusoids
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import cost, lines, plan, surgery

D = 16


def zeroed(model: TPruneForConditionalGeneration, kept: list[int]) -> TPruneForConditionalGeneration:
    """The dense model whose residual stream stays zero outside `kept`: what writes to it, found by module."""
    outside = [unit for unit in range(model.config.d_model) if unit not in kept]
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding):
                module.weight[:, outside] = 0
            elif name.endswith(("o_proj", "fc2")) or isinstance(module, nn.LayerNorm):
                module.weight[outside] = 0
                module.bias[outside] = 0
    return model


def with_norms_over(model: TPruneForConditionalGeneration, kept: list[int]) -> TPruneForConditionalGeneration:
    """Every normalization over the kept dimensions only, by torch's own function."""

    def corrected(norm: nn.LayerNorm, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        x = inputs[0]
        wide = torch.zeros_like(x)
        wide[..., kept] = F.layer_norm(x[..., kept], (len(kept),), norm.weight[kept], norm.bias[kept], norm.eps)
        return wide

    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(corrected)
    return model


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_cut_model_is_the_dense_one_with_zeros_and_corrected_norms(data: st.DataObject) -> None:
    shapes = data.draw(configs())
    kept = sorted(data.draw(st.sets(st.integers(0, shapes.d_model - 1), min_size=6)))
    chosen = plan.make("narrow", shapes, {"hidden": tuple(kept)}, {})
    cut = surgery.prune(model_of(shapes), chosen)
    by_hand = with_norms_over(zeroed(model_of(shapes), kept), kept)
    assert (logits(cut) - logits(by_hand)).abs().max() < 1e-5
    assert (logits(surgery.mask(model_of(shapes), chosen)) - logits(by_hand)).abs().max() < 1e-5
    assert (cut.config.d_model, cut.config.embedding_scale) == (len(kept), shapes.embedding_scale)
    assert cost.total(cut.config, "parameters") == cut.num_parameters()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_zeros_alone_are_another_model(norm: str) -> None:
    shapes, kept = config(d_model=D, norm=norm), list(range(0, D, 2))
    cut = surgery.prune(model_of(shapes), plan.make("narrow", shapes, {"hidden": tuple(kept)}, {}))
    assert (logits(cut) - logits(zeroed(model_of(shapes), kept))).abs().max() > 1e-2


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_positions_lose_the_same_dimensions_and_are_stored(positions: str, tmp_path: Path) -> None:
    shapes, kept = config(d_model=D, positions=positions), (0, 3, 4, 7, 8, 11, 15)
    model = model_of(shapes)
    cut = surgery.prune(model, plan.make("narrow", shapes, {"hidden": kept}, {}))
    assert torch.equal(cut.positions.weight, model.positions.weight[:, list(kept)])
    if positions == "sinusoidal":
        assert torch.equal(cut.positions.weight, sinusoids(shapes.max_positions, D)[:, list(kept)])
        assert not cut.positions.weight.requires_grad
    checkpoint.save(cut, tmp_path)
    again = checkpoint.load(tmp_path)
    assert torch.equal(again.positions.weight, cut.positions.weight)
    assert torch.equal(logits(again), logits(cut))


def test_a_units_lines_by_hand() -> None:
    shapes = config(d_model=D, depth=1, tie_output=False)
    model = model_of(shapes).double()
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    (group,) = lines.groups(shapes, ("hidden",))
    unit, total = 5, torch.zeros((), dtype=torch.float64)
    for name, tensor in parameters.items():
        if name.startswith("positions"):
            continue  # not learned: they say nothing of the unit
        if name.endswith(("o_proj.weight", "fc2.weight")) or (tensor.dim() == 1 and len(tensor) == D):
            if name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias", "fc1.bias")):
                continue
            total += tensor[unit].square().sum()
        elif tensor.dim() == 2:
            total += tensor[:, unit].square().sum()
    torch.testing.assert_close(lines.unit_square_norms(group, parameters)[unit], total)


def test_an_emptied_stream_is_refused() -> None:
    from tests.artifacts import error_of

    said = error_of(plan.make, "p", config(), {"hidden": ()}, {})
    assert "hidden: keeps nothing; keep at least one dimension" in said


def test_narrow_models_of_one_config_are_equal() -> None:
    shapes = TPruneConfig(**config(d_model=D).to_dict())
    model = model_of(shapes)
    once = surgery.prune(model, plan.make("a", shapes, {"hidden": (1, 2, 5, 9)}, {}))
    first = surgery.prune(model, plan.make("a", shapes, {"hidden": (0, 1, 2, 5, 8, 9)}, {}))
    twice = surgery.prune(first, plan.make("b", first.config, {"hidden": (1, 2, 3, 5)}, {}))
    assert all(torch.equal(twice.state_dict()[name], tensor) for name, tensor in once.state_dict().items())
