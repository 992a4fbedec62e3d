"""The latency table: interpolation, prediction, and the fit from the times of random models."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.artifacts import error_of
from tprune import artifact
from tprune.benchmarks import filling, prediction, probes, record, table
from tprune.benchmarks.filling import LocalMeter
from tprune.benchmarks.probes import Task
from tprune.benchmarks.record import Environment, Verdict
from tprune.benchmarks.table import LatencyTable, Surface
from tprune.delivery_config import Table
from tprune.model.shape import TPruneConfig, attention_shape, dense_config
from tprune.sparsity import latency, lines

LIKE = dense_config(d_model=32, heads=4, ffn=64, encoder_layers=2, decoder_layers=3, vocab_size=240)
SOURCE, TARGET = 5, 6
PRICES = {"encoder.self_attn": 1.0, "decoder.self_attn": 1.5, "decoder.cross_attn": 1.2}


def price(stack: str, name: str, shape: Any) -> float:
    """Milliseconds of a sub-layer on a machine that is linear in everything."""
    if isinstance(shape, Mapping):
        heads: int = shape["heads"]
        return (
            PRICES[f"{stack}.{name}"] * (0.02 + 0.003 * heads + 0.001 * heads * (shape["qk"] + shape["v"]))
            if heads
            else 0.0
        )
    return (0.01 + 0.002 * shape) * (1 if stack == "encoder" else 2) if shape else 0.0


def whole(config: TPruneConfig, target_tokens: int = TARGET) -> float:
    layers = sum(
        price(stack, name, shape)
        for stack in lines.STACKS
        for layer in lines.layer_shapes(config, stack)
        for name, shape in layer.items()
    )
    words = config.target_vocab_size or config.vocab_size
    return 0.3 + target_tokens * (0.05 + 0.0007 * words) + layers


class Steady:
    """A machine whose speed differs from group to group and from round to round, as a shared one does."""

    def __init__(self, drift: bool = True) -> None:
        self.drift = drift
        self.calls: list[list[str]] = []

    def __call__(self, tasks: Sequence[Task], tell: Any) -> dict[str, list[float]]:
        self.calls.append([task.name for task in tasks])
        speed = np.random.default_rng(len(self.calls)).uniform(0.7, 1.6, 5) if self.drift else np.ones(5)
        return {task.name: (speed * whole(task.config, task.target_tokens)).tolist() for task in tasks}

    def machine(self) -> tuple[Environment, Verdict]:
        return record.environment(), Verdict(ok=True)


def filled(folder: Path, like: TPruneConfig = LIKE, drift: bool = False, **settings: Any) -> LatencyTable:
    made = filling.fill(folder / "table", like, SOURCE, TARGET, Table(**settings), open_meter=lambda _: Steady(drift))(
        False
    )
    return table.read(made.path)


def test_a_surface_is_exact_for_what_is_linear_in_each_axis() -> None:
    axes = {"heads": (1, 2, 4), "width": (8, 16, 64)}

    def plane(heads: int, width: int) -> float:
        return 1 + 2 * heads + 0.5 * width + 0.25 * heads * width

    surface = Surface(axes=axes, ms=[[plane(h, w) for w in axes["width"]] for h in axes["heads"]])
    for heads in range(1, 5):
        for width in range(8, 65, 7):
            assert surface.at("x", heads=heads, width=width) == pytest.approx(plane(heads, width))


@given(st.lists(st.floats(0, 9), min_size=3, max_size=3), st.integers(10, 30))
def test_between_two_points_it_is_the_line(values: list[float], width: int) -> None:
    surface = Surface(axes={"width": (10, 14, 30)}, ms=values)
    assert surface.at("x", width=width) == pytest.approx(np.interp(width, (10, 14, 30), values), abs=1e-12)


def test_beyond_the_grid_it_refuses() -> None:
    surface = Surface(axes={"d_model": (32,), "width": (8, 64)}, ms=[[1.0, 2.0]])
    assert error_of(lambda: surface.at("decoder.ffn", d_model=64, width=4)) == (
        "decoder.ffn: outside the latency table · d_model 64, measured from 32 to 32; width 4, measured from 8 to 64 · "
        "keep to what was measured (--grid), or fill a table like the model: tprune table OUT --like MODEL"
    )


@pytest.mark.parametrize(
    ("axes", "ms", "why"),
    [
        ({"width": (8, 16)}, [1.0], r"values of shape \(1,\) on axes of lengths \(2,\)"),
        ({"width": (16, 8)}, [1.0, 2.0], "positions on axis width do not rise"),
    ],
)
def test_what_is_no_grid_is_no_surface(axes: Any, ms: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Surface(axes=axes, ms=ms)


def test_a_filled_table_predicts_the_machine_it_was_filled_on(tmp_path: Path) -> None:
    made = filled(tmp_path, d_models=(16,))
    for config in (LIKE, *prediction.shapes(made, LIKE, 10).values()):
        assert table.predict(made, config) == pytest.approx(whole(config), rel=1e-4)
        assert latency.total(config, made) == table.predict(made, config)
    assert made.surfaces[table.FIXED].at("fixed", d_model=32) == pytest.approx(0.3 + TARGET * 0.05, rel=1e-3)


def test_components_add_up_to_the_prediction(tmp_path: Path) -> None:
    made = filled(tmp_path)
    found = table.by_component(made, LIKE)
    assert sum(found.values()) == pytest.approx(table.predict(made, LIKE))
    layers = lines.layer_shapes(LIKE, "decoder")
    assert found["decoder.ffn"] == pytest.approx(sum(price("decoder", "ffn", one["ffn"]) for one in layers), rel=1e-3)
    assert set(found) == {*PRICES, "encoder.ffn", "decoder.ffn", "output"}


def test_drift_cancels_within_a_group(tmp_path: Path) -> None:
    made = filled(tmp_path, drift=True, d_models=(16,))
    dense = table.predict(made, LIKE)
    for config in prediction.shapes(made, LIKE, 10).values():
        assert table.predict(made, config) / dense == pytest.approx(whole(config) / whole(LIKE), rel=1e-3)


@pytest.mark.parametrize("alone", [120, 240])
def test_a_projection_that_fits_into_the_cache_alone_costs_what_it_does_behind_layers(
    tmp_path: Path, alone: int
) -> None:
    """So many tokens or fewer do where no other weights of the decoder take the room; with 240, all that are timed."""

    class Cached(Steady):
        def __call__(self, tasks: Sequence[Task], tell: Any) -> dict[str, list[float]]:
            def ms(task: Task) -> float:
                words = task.config.vocab_size
                decoder = lines.layer_shapes(task.config, "decoder")
                fits = words <= alone and not any(len(lines.sublayers(layer)) > 1 for layer in decoder)
                return whole(task.config, task.target_tokens) - (0.9 * 0.0007 * words * task.target_tokens) * fits

            return {task.name: [ms(task)] * 3 for task in tasks}

    made = filling.fill(tmp_path / "table", LIKE, SOURCE, TARGET, Table(), open_meter=lambda _: Cached())(False)
    trimmed = TPruneConfig(
        **{**LIKE.to_dict(), "vocab_size": 120, "decoder_shapes": lines.layer_shapes(LIKE, "decoder")[:1]}
    )
    assert table.predict(table.read(made.path), trimmed) == pytest.approx(whole(trimmed), rel=1e-4)


def test_a_whole_model_that_no_cache_holds_is_predicted_as_it_is_measured(tmp_path: Path) -> None:
    """Beyond what the largest sum of like sub-layers takes, every millisecond takes twice as long."""
    most = max(
        whole(task.config)
        for group in probes.groups(LIKE, probes.grid_for(LIKE, (16,)), TARGET, 2)
        for task in group.tasks
        if probes.WHOLE not in task.name
    )

    class Crowded(Steady):
        def __call__(self, tasks: Sequence[Task], tell: Any) -> dict[str, list[float]]:
            return {task.name: [slow(whole(task.config, task.target_tokens))] * 3 for task in tasks}

    def slow(ms: float) -> float:
        return ms + max(0.0, ms - most)

    settings = Table(d_models=(16,), copies=2)
    made = filling.fill(tmp_path / "table", LIKE, SOURCE, TARGET, settings, open_meter=lambda _: Crowded())(False)
    filled_table = table.read(made.path)
    models = probes.whole_models(LIKE, probes.grid_for(LIKE, (16,)))
    assert slow(whole(models["whole deep"])) > 1.1 * whole(models["whole deep"])
    for config in models.values():
        assert table.predict(filled_table, config) == pytest.approx(slow(whole(config)), rel=1e-4)
    assert sum(table.by_component(filled_table, LIKE).values()) == pytest.approx(table.predict(filled_table, LIKE))


def test_a_trimmed_models_probes_say_as_many_tokens_as_their_names(tmp_path: Path) -> None:
    like = TPruneConfig(**{**LIKE.to_dict(), "output_vocab_size": 160})
    grid = probes.grid_for(like)
    assert grid.vocabulary == (20, 80, 160)
    tasks = {task.name: task for task in probes.groups(like, grid, TARGET, 2)[0].tasks}
    assert [tasks[f"output vocabulary={size}"].config.output_size for size in grid.vocabulary] == [20, 80, 160]
    assert prediction.shapes(filled(tmp_path, like), like, 1)["largest"].output_size == 160


def test_models_of_one_name_are_told_apart() -> None:
    a, b, other = Path("a/3x"), Path("b/3x"), Path("b/dense")
    assert prediction.named((a, other, b)) == {"a/3x": a, "dense": other, "b/3x": b}


def test_a_killed_filling_goes_on(tmp_path: Path) -> None:
    class Killed(Steady):
        def __call__(self, tasks: Sequence[Task], tell: Any) -> dict[str, list[float]]:
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().__call__(tasks, tell)

    settings, first = Table(points=2), Killed()
    with pytest.raises(KeyboardInterrupt):
        filling.fill(tmp_path / "table", LIKE, SOURCE, TARGET, settings, open_meter=lambda _: first)(False)
    rest = Steady()
    made = filling.fill(tmp_path / "table", LIKE, SOURCE, TARGET, settings, open_meter=lambda _: rest)(False)
    groups = probes.groups(LIKE, probes.grid_for(LIKE, (), 2), TARGET, settings.copies)
    assert [*first.calls, *rest.calls] == [[task.name for task in group.tasks] for group in groups]
    assert artifact.read(made.path, "latency-table")


def test_each_unit_costs_what_its_removal_saves(tmp_path: Path) -> None:
    made = filled(tmp_path)
    costs = table.unit_costs(made, LIKE)
    assert set(costs) == {group.name for group in lines.groups(LIKE, lines.WIDTH_KINDS)}
    assert costs["decoder.1.ffn"] == pytest.approx(0.004, rel=1e-3)
    assert costs["encoder.1.ffn"] == pytest.approx(0.002, rel=1e-3)
    # heads of width 8 are as narrow as the table goes: nothing is known of narrower ones
    assert costs["decoder.1.self_attn.qk"] == 0
    wide = dense_config(d_model=32, heads=2, ffn=64, encoder_layers=1, decoder_layers=1, vocab_size=240)
    made = filled(tmp_path / "wide", wide)
    costs = table.unit_costs(made, wide)
    assert costs["decoder.0.cross_attn.vo"] == pytest.approx(1.2 * 0.001, rel=1e-3)
    assert costs["encoder.0.self_attn.qk"] == pytest.approx(0.001, rel=1e-3)


def test_keys_filled_up_to_the_values_width_cost_as_much(tmp_path: Path) -> None:
    wide = dense_config(d_model=32, heads=1, ffn=64, encoder_layers=1, decoder_layers=1, vocab_size=240)
    made = filled(tmp_path, wide)
    narrow, full = {**attention_shape(1, 16), "v": 32}, attention_shape(1, 32)
    equal = made.model_copy(update={"equal_widths": True})
    assert made.sublayer(32, "decoder", "self_attn", narrow) < made.sublayer(32, "decoder", "self_attn", full)
    assert equal.sublayer(32, "decoder", "self_attn", narrow) == equal.sublayer(32, "decoder", "self_attn", full)
    assert equal.sublayer(32, "encoder", "self_attn", narrow) < equal.sublayer(32, "encoder", "self_attn", full)
    assert made.sublayer(32, "decoder", "cross_attn", {**full, "heads": 0}) == 0


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text(json.dumps({"schema_version": 9}))
    assert error_of(table.read, tmp_path) == (
        f"{file}: not a latency table of this version · got schema_version 9 · wanted 1 · "
        "fill it again with `tprune table`"
    )
    file.write_text(json.dumps({"schema_version": 1, "engine": 3}))
    assert "not a latency table · " in error_of(table.read, file)


def test_real_models_are_timed_at_the_wanted_lengths(tmp_path: Path) -> None:
    groups = probes.groups(LIKE, probes.grid_for(LIKE, (), 2), TARGET, 2)
    base = groups[0].tasks[0]
    short = replace(base, name="short", target_tokens=TARGET // 2)
    meter = LocalMeter(tmp_path, Table(rounds=3, seconds=0), SOURCE)
    told: list[str] = []
    times = meter((base, short, groups[-1].tasks[-1]), told.append)
    assert [len(rounds) for rounds in times.values()] == [3, 3, 3]
    assert all(ms > 0 for rounds in times.values() for ms in rounds)
    assert told[-1] == "time 3 models"
    assert len(list((tmp_path / "bundles").iterdir())) == 2  # one model, at two lengths


def test_a_folder_keeps_bundles_of_every_form(tmp_path: Path) -> None:
    task = probes.groups(LIKE, probes.grid_for(LIKE, (), 2), TARGET, 2)[0].tasks[0]
    forms = {"fp32": Table(), "int8": Table(precision="int8")}
    made = {name: filling.bundle_of(task, tmp_path, settings) for name, settings in forms.items()}
    assert {name: artifact.read(path).manifest["config"]["precision"] for name, path in made.items()} == {
        name: name for name in forms
    }
    assert filling.bundle_of(task, tmp_path, forms["int8"]) == made["int8"]
    assert len(list((tmp_path / "models").iterdir())) == 1


def test_special_tokens_behind_the_words(tmp_path: Path) -> None:
    marian = LIKE.__class__(
        **LIKE.to_dict() | {"pad_token_id": 239, "decoder_start_token_id": 239, "eos_token_id": 200}
    )
    nllb = LIKE.__class__(**LIKE.to_dict() | {"forced_bos_token_id": 220, "decoder_start_token_id": 2})
    for name, like in (("marian", marian), ("nllb", nllb)):
        smallest = probes.groups(like, probes.grid_for(like, (), 2), TARGET, 2)[0].tasks[-2:]
        assert min(task.config.vocab_size for task in smallest) == 240 // 8
        times = LocalMeter(tmp_path / name, Table(rounds=2, seconds=0), SOURCE)(smallest, lambda _: None)
        assert all(ms > 0 for rounds in times.values() for ms in rounds)


def test_a_table_is_of_the_depth_that_it_was_calibrated_with() -> None:
    deeper = dense_config(d_model=32, heads=4, ffn=64, encoder_layers=2, decoder_layers=6, vocab_size=240)
    assert filling.inputs(LIKE, SOURCE, TARGET, Table())["depths"] == {"encoder": 2, "decoder": 3}
    assert filling.inputs(deeper, SOURCE, TARGET, Table()) != filling.inputs(LIKE, SOURCE, TARGET, Table())
