"""BSSL: the blocks' own lasso, the share of sparse lines, and sensitivity."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.artifacts import error_of
from tests.sparsity.small_models import attention, config, logits, model_of
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import bssl, lines, plan, surgery

SHAPES = TPruneConfig(
    vocab_size=23,
    d_model=4,
    encoder_shapes=[{"self_attn": attention(2, 2, 1), "ffn": 3}, {"self_attn": attention(1, 2, 2), "ffn": 2}],
    decoder_shapes=[{"self_attn": attention(2, 1, 2), "cross_attn": attention(1, 1, 1), "ffn": 5}],
)
FC1 = "encoder.layers.0.ffn.fc1.weight"  # 3 x 4


def with_fc1(rows: list[list[float]]) -> TPruneForConditionalGeneration:
    model = model_of(SHAPES)
    with torch.no_grad():
        model.get_parameter(FC1).copy_(torch.tensor(rows))
    return model


def test_block_lasso_by_hand() -> None:
    model = with_fc1([[3.0, 4, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    bssl.BlockLasso(model, weight=0.5)(0.2)
    # rows: norms 5, 1, 0, mean 2; columns: norms 3, 4, 0, 1, mean 2; a line of norm n keeps 1 - 0.1 * 2 / n
    row, column = [1 - 0.2 / 5, 1 - 0.2 / 1], [1 - 0.2 / 3, 1 - 0.2 / 4, 0, 1 - 0.2 / 1]
    expected = [[3 * row[0] * column[0], 4 * row[0] * column[1], 0, 0], [0, 0, 0, row[1] * column[3]], [0.0] * 4]
    torch.testing.assert_close(model.get_parameter(FC1).detach(), torch.tensor(expected))
    for name, parameter in model.named_parameters():
        if name in lines.blocks(SHAPES):
            assert (parameter.abs() <= before[name].abs()).all()
            assert not torch.equal(parameter, before[name])
        else:
            assert torch.equal(parameter, before[name])  # biases, norms and embeddings are no blocks


def test_block_lasso_stops_at_zero() -> None:
    model = with_fc1([[3.0, 4, 0, 0], [0, 0, 0, 0.01], [0, 0, 0, 0]])
    shrink = bssl.BlockLasso(model, weight=1.0)
    shrink(0.05)
    block = model.get_parameter(FC1)
    assert block[1].abs().sum() == 0
    assert (block[0, :2] > 0).all()
    for _ in range(20):
        shrink(1.0)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert block[1].abs().sum() == block[:, 2].abs().sum() == 0
    assert (block[0, :2] >= 0).all()  # nothing ever crosses zero


def test_sparse_lines_by_hand() -> None:
    # rows: norms 10, 5, 0.4, mean 5.13; columns: norms 10, 5, 0.4, 0, mean 3.85
    model = with_fc1([[10.0, 0, 0, 0], [0, 5, 0, 0], [0, 0, 0.4, 0]])
    table = {entry["component"]: entry for entry in bssl.sparse_lines(model, threshold=0.1)}
    assert table["encoder.0.ffn.fc1"] == {
        "component": "encoder.0.ffn.fc1",
        "rows": pytest.approx(1 / 3),
        "columns": 1 / 4,  # 0.4 is over 0.385
        "lines_rows": 3,
        "lines_columns": 4,
    }
    assert list(table) == [lines.component(name) for name in lines.blocks(SHAPES)]
    assert len(table) == 2 * 6 + 10  # two encoder layers and a decoder layer
    lower = {entry["component"]: entry for entry in bssl.sparse_lines(model, threshold=0.05)}
    assert (lower["encoder.0.ffn.fc1"]["rows"], lower["encoder.0.ffn.fc1"]["columns"]) == (0, 1 / 4)


class Recorder:
    """A measure that looks at the model it is given."""

    def __init__(self, model: TPruneForConditionalGeneration) -> None:
        self.model = model
        self.seen: list[tuple[bool, dict[str, Tensor]]] = []

    def __call__(self, model: TPruneForConditionalGeneration) -> Mapping[str, float | None]:
        self.seen.append((model is self.model, {name: value.clone() for name, value in model.state_dict().items()}))
        return {"loss": float(len(self.seen)), "bleu": None}


def test_sensitivity_masks_the_weakest_units_and_restores_every_bit(tmp_path: Path) -> None:
    model = model_of(SHAPES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recorder = Recorder(model)
    told: list[str] = []
    table = bssl.sensitivity(model, [0.4, 1.0], recorder, tmp_path, told.append)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert told == [group.name for group in lines.groups(SHAPES, lines.PART_KINDS)]
    assert [entry["loss"] for entry in table] == list(range(1, len(table) + 1))
    parameters = dict(model.named_parameters())
    for entry, (same, state) in zip(table, recorder.seen, strict=True):
        if entry["kind"] in ("sublayer", "layer"):
            continue
        assert same  # masked in place
        group = next(group for group in lines.groups(SHAPES) if group.name == entry["component"])
        norms = lines.unit_square_norms(group, parameters)
        masked = [unit for unit, norm in enumerate(lines.unit_square_norms(group, state)) if norm == 0]
        assert len(masked) == round(entry["share"] * group.size)
        assert set(masked) == set(norms.argsort()[: len(masked)].tolist())
        member_names = {member.parameter for member in group.members[0]}
        assert all(torch.equal(before[name], value) for name, value in state.items() if name not in member_names)


def test_sensitivity_leaves_out_sublayers_and_layers_one_at_a_time(tmp_path: Path) -> None:
    model = model_of(SHAPES)
    seen = []

    def measure(candidate: TPruneForConditionalGeneration) -> dict[str, float | None]:
        seen.append(logits(candidate))
        return {"loss": 0.0, "bleu": None}

    table = bssl.sensitivity(model, [], measure, tmp_path)
    assert [(entry["component"], entry["unit"]) for entry in table] == [
        ("encoder.0.sublayer", 0), ("encoder.0.sublayer", 1), ("encoder.1.sublayer", 0), ("encoder.1.sublayer", 1),
        ("encoder.layer", 0), ("encoder.layer", 1), ("decoder.0.sublayer", 0), ("decoder.0.sublayer", 1),
        ("decoder.0.sublayer", 2),
    ]  # the only decoder layer cannot go  # fmt: skip
    ffn = model.decoder.layers[0].ffn
    model.decoder.layers[0].ffn = None
    assert (logits(model) - seen[-1]).abs().max() < 1e-6
    model.decoder.layers[0].ffn = ffn
    assert all((logits(model) - other).abs().max() > 1e-4 for other in seen)


def test_a_failing_measure_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = model_of(SHAPES)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def measure(_: TPruneForConditionalGeneration) -> dict[str, float | None]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bssl.sensitivity(model, [0.9], measure, tmp_path)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Interrupted:
    """A measure that counts, until somebody stops it."""

    def __init__(self, last: int | None = None) -> None:
        self.calls, self.last = 0, last

    def __call__(self, model: TPruneForConditionalGeneration) -> dict[str, float | None]:
        if self.calls == self.last:
            raise KeyboardInterrupt
        self.calls += 1
        return {"loss": float(logits(model).norm()), "bleu": None}


# of the first layer two shares of four groups, and two sub-layers; then those of the next one
@pytest.mark.parametrize(("measured", "kept"), [(0, 0), (5, 4), (9, 8), (17, 16)])
def test_a_kill_costs_no_finished_component(measured: int, kept: int, tmp_path: Path) -> None:
    model, shares, once, again = model_of(SHAPES), [0.1, 0.7], Interrupted(), Interrupted()
    (tmp_path / "undisturbed").mkdir()
    expected = bssl.sensitivity(model, shares, once, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        bssl.sensitivity(model, shares, Interrupted(measured), tmp_path)
    assert bssl.sensitivity(model, shares, again, tmp_path) == expected
    assert again.calls == once.calls - kept


def measured(kind: str, component: str, share: float, loss: float, **rest: Any) -> dict[str, Any]:
    return {"component": component, "kind": kind, "share": share, "loss": loss, "bleu": None, **rest}


ANALYSIS = {
    "dense": {"loss": 2.0, "bleu": None},
    "sensitivity": [
        measured("ffn", "a.ffn", 0.3, 9.0),
        measured("ffn", "a.ffn", 0.6, 2.4),  # the share nearest to a half
        measured("ffn", "b.ffn", 0.3, 9.0),
        measured("ffn", "b.ffn", 0.6, 2.1),
        measured("qk", "a.qk", 0.6, 1.9),  # masking it even helps
        measured("vo", "a.vo", 0.6, 2.2),
        measured("head", "a.head", 0.6, 7.0),  # no width
        measured("layer", "decoder.layer", 1.0, 2.5, unit=0),
        measured("layer", "decoder.layer", 1.0, 3.0, unit=1),
        measured("layer", "encoder.layer", 1.0, 2.125, unit=0),
        measured("sublayer", "decoder.0.sublayer", 1.0, 5.0, unit=0),
    ],
}


def test_importance_is_the_loss_at_half_with_a_floor() -> None:
    # increases 0.4, 0.1, -0.1, 0.2: median 0.15, floor 0.0075
    found = bssl.importance(ANALYSIS)
    assert found == pytest.approx({"a.ffn": 0.4, "b.ffn": 0.1, "a.qk": 0.0075, "a.vo": 0.2})
    assert bssl.importance({"dense": {"loss": 2.0}, "sensitivity": []}) == {}
    worse = {**ANALYSIS, "dense": {"loss": 20.0}}
    assert set(bssl.importance(worse).values()) == {1e-6}


def test_layer_importance_keeps_the_order_of_the_layers() -> None:
    assert bssl.layer_importance(ANALYSIS) == {"decoder.layer": [0.5, 1.0], "encoder.layer": [0.125]}


def test_strengths_lie_between_half_and_twice_the_weight() -> None:
    groups = lines.groups(SHAPES, lines.WIDTH_KINDS)
    assert set(bssl.strengths(groups, 3.0, None).values()) == {3.0}
    names = [group.name for group in groups[:4]]
    increases = [0.001, 0.1, 0.2, 100.0]  # median 0.15
    analysis = {
        "dense": {"loss": 1.0},
        "sensitivity": [
            measured(group.kind, group.name, 0.5, 1.0 + increase)
            for group, increase in zip(groups[:4], increases, strict=True)
        ],
    }
    found = bssl.strengths(groups, 3.0, analysis)
    assert [found[name] for name in names] == pytest.approx([6.0, 3 * 1.5**0.5, 3 * 0.75**0.5, 1.5])
    assert {found[group.name] for group in groups[4:]} == {3.0}  # not measured


def test_lines_that_take_much_time_are_pushed_harder() -> None:
    groups = lines.groups(SHAPES, lines.WIDTH_KINDS)
    same = {group.name: 0.3 / group.size for group in groups}
    assert set(bssl.strengths(groups, 3.0, None, same).values()) == {3.0}
    costs = {**same, groups[0].name: 3 * same[groups[0].name], groups[1].name: 0.0}
    found = bssl.strengths(groups, 3.0, None, costs)
    assert found[groups[0].name] == pytest.approx(3 * 3**0.5)
    assert found[groups[1].name] == 1.5
    entries = [measured(group.kind, group.name, 0.5, 1.2) for group in groups]
    entries[0]["loss"] = 1.6  # three times the time for three times the loss
    lossy = {"dense": {"loss": 1.0}, "sensitivity": entries}
    assert bssl.strengths(groups, 3.0, lossy, costs)[groups[0].name] == pytest.approx(3.0)


def test_findings_about_another_model_are_refused(tmp_path: Path) -> None:
    def analysis(**shape: Any) -> dict[str, Any]:
        (scratch := tmp_path / f"{shape}").mkdir(exist_ok=True)
        measured = bssl.sensitivity(model_of(config(**shape)), [0.5], lambda _: {"loss": 1.0, "bleu": None}, scratch)
        return {"dense": {"loss": 1.0}, "sensitivity": measured}

    bssl.require_of(analysis(depth=2), config(depth=2, ffn=8), "a")  # widths may differ
    for depth in (1, 3):
        said = error_of(bssl.require_of, analysis(depth=depth), config(depth=2), "a")
        assert said.startswith("a: an analysis of another model · ")
        assert depth == 1 or f"decoder.layer: the analysis has {depth}, the model 2" in said
    narrow = config(depth=2)
    narrow.encoder_shapes = [{"self_attn": attention(2, 4, 4), "ffn": ffn} for ffn in (12, 0)]
    assert "encoder.1.sublayer: the analysis has 2, the model 1" in error_of(
        bssl.require_of, analysis(depth=2), narrow, "a"
    )
    found = [entry for entry in analysis(depth=2)["sensitivity"] if "unit" in entry]
    bssl.require_of({"dense": {"loss": 1.0}, "sensitivity": found}, config(depth=2), "a")  # without any shares


def test_findings_are_carried_over_a_cut_under_the_new_names(tmp_path: Path) -> None:
    one = attention(2, 2, 2)
    model = model_of(
        TPruneConfig(
            vocab_size=23,
            d_model=8,
            encoder_shapes=[{"self_attn": one, "ffn": 4}] * 2,
            decoder_shapes=[{"self_attn": one, "cross_attn": one, "ffn": 4}] * 3,
            max_positions=16,
        )
    )
    value = iter(range(10_000))
    table: dict[str, Any] = {
        "components": bssl.sparse_lines(model, 0.1),
        "dense": {"loss": 0.0, "bleu": None},
        "sensitivity": bssl.sensitivity(model, [0.5], lambda _: {"loss": float(next(value)), "bleu": None}, tmp_path),
    }
    keep = {"decoder.layer": (0, 2), "decoder.2.sublayer": (0, 2), "encoder.0.ffn": (1, 3)}
    chosen = plan.make("p", model.config, keep, {})
    found, smaller = bssl.carried(table, chosen), surgery.prune(model, chosen)
    assert found["dense"] == table["dense"]
    names = {group.name for group in lines.groups(smaller.config, lines.WIDTH_KINDS)}
    assert names <= bssl.importance(found).keys()  # what was cut out of a layer that stays is never asked for
    before, after = bssl.importance(table), bssl.importance(found)
    assert after["encoder.0.ffn"] == before["encoder.0.ffn"]
    assert after["decoder.0.ffn"] == before["decoder.0.ffn"]
    assert after["decoder.1.ffn"] == before["decoder.2.ffn"] != before["decoder.1.ffn"]
    layers = bssl.layer_importance(table)
    assert bssl.layer_importance(found) == {
        "encoder.layer": layers["encoder.layer"],
        "decoder.layer": [layers["decoder.layer"][0], layers["decoder.layer"][2]],
    }
    units = {
        entry["unit"]: entry["loss"] for entry in found["sensitivity"] if entry["component"] == "decoder.1.sublayer"
    }
    old = {entry["unit"]: entry["loss"] for entry in table["sensitivity"] if entry["component"] == "decoder.2.sublayer"}
    assert units == {0: old[0], 1: old[2]}
    assert {entry["component"] for entry in found["components"] if entry["component"].startswith("decoder")} == {
        name for name in map(lines.component, lines.blocks(smaller.config)) if name.startswith("decoder")
    } | {f"decoder.1.cross_attn.{part}_proj" for part in "qkvo"}
