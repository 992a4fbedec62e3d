"""Turned and narrowed residual streams: exact where nothing of the stream is lost."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.artifacts import error_of
from tests.sparsity.small_models import Sentences, config, configs, logits, model_of
from tprune.model import checkpoint
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import cost, rotation

D = 16
PAIRS = Sentences.random(60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_at_the_old_width_nothing_changes(data: st.DataObject) -> None:
    shapes: TPruneConfig = data.draw(configs())
    shapes.norm, shapes.final_norm, shapes.embedding_norm = "pre", True, False
    model = model_of(shapes)
    turned = rotation.narrow(model, rotation.components(model, PAIRS, seed=1), shapes.d_model)
    assert (logits(turned) - logits(model)).abs().max() < 1e-4
    assert turned.config.d_model == shapes.d_model
    assert cost.total(turned.config, "parameters") == turned.num_parameters()


def low_rank(rank: int) -> TPruneForConditionalGeneration:
    """A model that writes to `rank` directions of its stream only, and to its mean, which nobody reads."""
    model = model_of(config(d_model=D))
    directions, _ = torch.linalg.qr(torch.cat([torch.ones(D, 1), torch.randn(D, rank)], dim=1))
    project = directions @ directions.T
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding):
                module.weight.copy_(module.weight @ project)
            elif name.endswith(("o_proj", "fc2")):
                module.weight.copy_(project @ module.weight)
                module.bias.copy_(module.bias @ project)
    return model


@pytest.mark.parametrize("rank", [3, 7, 12])
def test_a_stream_of_few_directions_becomes_narrow_without_loss(rank: int) -> None:
    model = low_rank(rank)
    found = rotation.components(model, PAIRS, seed=1)
    smaller = rotation.narrow(model, found, rank + 1)
    assert smaller.config.d_model == rank + 1
    assert smaller.config.embedding_scale == model.config.embedding_scale
    # the normalizations' epsilon weighs differently beside fewer dimensions
    lost = (logits(smaller) - logits(model)).abs().max()
    assert lost < 2e-3
    assert (logits(rotation.narrow(model, found, rank)) - logits(model)).abs().max() > 10 * lost


@pytest.mark.parametrize("size", [9, 12, D])
def test_the_mean_stays_out_of_the_stream_where_there_are_more_dimensions_than_directions(size: int) -> None:
    model = low_rank(7)
    found = rotation.components(model, PAIRS, seed=1)
    np.testing.assert_allclose(found.basis.sum(dim=0).numpy(), 0, atol=1e-9)
    assert (logits(rotation.narrow(model, found, size)) - logits(model)).abs().max() < 2e-3


def test_the_components_are_those_of_numpy() -> None:
    model = model_of(config(d_model=D))
    seen: list[np.ndarray] = []

    def look(_norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        rows = inputs[0].detach().double().numpy().reshape(-1, D)
        rows = rows - rows.mean(axis=1, keepdims=True)
        seen.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    for norm in norms:
        norm.register_forward_pre_hook(look)
    by_norm: dict[int, list[np.ndarray]] = {}
    for source, target in PAIRS.pairs:  # one by one: there is no padding
        seen.clear()
        tokens = torch.tensor(np.array([0, *target[:-1]]))[None]
        model(torch.tensor(source)[None], decoder_input_ids=tokens, use_cache=False)
        for index, rows in enumerate(seen):
            by_norm.setdefault(index, []).append(rows)
    moments = [np.concatenate(rows).T @ np.concatenate(rows) for rows in by_norm.values()]
    total = sum(moment / np.trace(moment) for moment in moments)
    strengths, directions = np.linalg.eigh(total)
    found = rotation.components(model, PAIRS, seed=1)
    assert len(norms) == len(found.energy) == len(moments)
    np.testing.assert_allclose(sum(found.energy.values()).numpy(), strengths[::-1][: D - 1], atol=1e-6)  # type: ignore[union-attr]
    overlap = np.abs((found.basis.numpy() * directions[:, ::-1][:, : D - 1]).sum(axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    np.testing.assert_allclose(found.basis.numpy().sum(axis=0), 0, atol=1e-6)


def test_the_sentences_are_a_seeded_sample_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tprune.sparsity.calibration.SENTENCES", 20)
    model = model_of(config(d_model=D))

    def energy(pairs: Sentences, seed: int) -> torch.Tensor:
        return torch.cat([*rotation.components(model, pairs, seed).energy.values()])

    drawn = np.random.default_rng(3).permutation(60)[:20]
    torch.testing.assert_close(energy(PAIRS, 3), energy(Sentences(tuple(PAIRS.pairs[index] for index in drawn)), 1))
    for other in (energy(PAIRS, 4), energy(Sentences(PAIRS.pairs[:20]), 1)):
        assert (energy(PAIRS, 3) - other).abs().max() > 1e-3


@pytest.mark.parametrize("width", [2, 3, 8, 17])
def test_cosines_are_orthonormal_and_without_a_mean(width: int) -> None:
    rows = rotation.cosines(width)
    assert rows.shape == (width - 1, width)
    torch.testing.assert_close(rows @ rows.T, torch.eye(width - 1, dtype=torch.float64))
    torch.testing.assert_close(rows.sum(dim=1), torch.zeros(width - 1, dtype=torch.float64))


def test_a_narrow_model_is_an_ordinary_checkpoint_that_learns(tmp_path: Path) -> None:
    model = model_of(config(d_model=D))
    smaller = rotation.narrow(model, rotation.components(model, PAIRS, seed=1), 12)
    checkpoint.save(smaller, tmp_path)
    again = checkpoint.load(tmp_path)
    assert torch.equal(logits(again), logits(smaller))
    source = torch.tensor([[4, 5, 1]])
    again(source, labels=source).loss.backward()
    assert all(parameter.grad is not None for parameter in again.parameters() if parameter.requires_grad)


def test_what_cannot_be_turned_is_refused() -> None:
    post = model_of(config(norm="post", final_norm=False))
    assert not rotation.is_possible(post.config)
    assert error_of(rotation.components, post, PAIRS, 1) == (
        "the residual stream of this model cannot be turned · got norm = 'post', final_norm = False, embedding_norm = "
        "False · wanted sub-layers normalized first, and a final normalization only · choose dimensions instead"
    )
    model = model_of(config(d_model=D))
    found = rotation.components(model, PAIRS, seed=1)
    for width in (1, D + 1):
        said = error_of(rotation.narrow, model, found, width)
        assert said == f"no such width · got {width} · wanted 2 to 16 · choose another share"
