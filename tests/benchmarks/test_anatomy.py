"""Heat map, sensitivity and widths, laid out by hand."""

from typing import Any

import pytest

from tprune.benchmarks.anatomy import curves, heat, read_analysis, widths
from tprune.errors import InputError

ANALYSIS = {
    "components": [
        {"component": "encoder.0.self_attn.q_proj", "rows": 0.5, "columns": 0.1, "lines_rows": 8, "lines_columns": 8},
        {"component": "encoder.0.fc1", "rows": 0.25, "columns": 0.0, "lines_rows": 16, "lines_columns": 8},
        {"component": "decoder.0.self_attn.q_proj", "rows": 0.1, "columns": 0.2, "lines_rows": 8, "lines_columns": 8},
        {"component": "decoder.0.cross_attn.q_proj", "rows": 0.3, "columns": 0.4, "lines_rows": 8, "lines_columns": 8},
        {"component": "decoder.0.fc1", "rows": 0.6, "columns": 0.7, "lines_rows": 16, "lines_columns": 8},
    ],
    "sensitivity": [
        {"component": "encoder.0.ffn", "kind": "ffn", "share": 0.9, "loss": 3.25, "bleu": None},
        {"component": "encoder.0.ffn", "kind": "ffn", "share": 0.1, "loss": 2.5, "bleu": 30.0},
        {"component": "encoder.0.self_attn", "kind": "qk", "share": 0.5, "loss": 2.25, "bleu": None},
    ],
    "dense": {"loss": 2.25, "bleu": 38.0},
}


def layer(heads: int, qk: int, v: int, ffn: int, *, cross: bool = False) -> dict[str, Any]:
    attention = {"heads": heads, "qk": qk, "v": v, "scale": 0.125}
    return {"self_attn": attention, "ffn": ffn, **({"cross_attn": attention} if cross else {})}


SHAPES: dict[str, dict[str, Any]] = {
    "dense": {
        "d_model": 256,
        "encoder": [layer(4, 64, 64, 1024)] * 2,
        "decoder": [layer(4, 64, 64, 1024, cross=True)] * 2,
    },
    "small": {"encoder": [layer(3, 48, 40, 512), layer(0, 0, 0, 256)], "decoder": [layer(2, 32, 64, 0, cross=True)]},
}


def test_heat_lays_blocks_out_by_layer_and_projection() -> None:
    found = heat(read_analysis(ANALYSIS))
    assert found.layers == ("encoder.0", "decoder.0")
    assert found.projections == ("self_attn.q_proj", "cross_attn.q_proj", "fc1")
    assert found.rows == ((0.5, None, 0.25), (0.1, 0.3, 0.6))
    assert found.columns == ((0.1, None, 0.0), (0.2, 0.4, 0.7))


def test_blocks_outside_the_layers_get_a_line_of_their_own() -> None:
    found = heat(read_analysis({"components": [{"component": "shared", "rows": 0.2, "columns": 0.0}]}))
    assert (found.layers, found.projections, found.rows) == (("other",), ("shared",), ((0.2,),))


def test_curves_are_rises_over_the_dense_loss_from_nothing_masked() -> None:
    found = curves(read_analysis(ANALYSIS))
    assert list(found) == ["ffn", "qk"]
    assert (found["ffn"][0].shares, found["ffn"][0].rises) == ((0.0, 0.1, 0.9), (0.0, 0.25, 1.0))
    assert found["qk"][0].component == "encoder.0.self_attn"


def test_without_a_dense_loss_there_are_no_curves() -> None:
    assert curves(read_analysis({**ANALYSIS, "dense": None})) == {}


def test_widths_of_every_group() -> None:
    found = {panel.title: (panel.dense, panel.kept) for panel in widths(SHAPES)["small"]}
    assert found == {
        "encoder self_attn heads": ((4, 4), (3, 0)),
        "encoder self_attn qk": ((64, 64), (48, 0)),
        "encoder self_attn v": ((64, 64), (40, 0)),
        "encoder ffn": ((1024, 1024), (512, 256)),
        "decoder self_attn heads": ((4, 4), (2,)),
        "decoder self_attn qk": ((64, 64), (32,)),
        "decoder self_attn v": ((64, 64), (64,)),
        "decoder ffn": ((1024, 1024), (0,)),
        "decoder cross_attn heads": ((4, 4), (2,)),
        "decoder cross_attn qk": ((64, 64), (32,)),
        "decoder cross_attn v": ((64, 64), (64,)),
    }


def test_each_panel_has_a_place_of_its_own() -> None:
    panels = widths(SHAPES)["small"]
    assert len({(panel.line, panel.place) for panel in panels}) == len(panels) == 11


def test_other_forms_are_refused() -> None:
    with pytest.raises(InputError, match=r"the analysis does not fit the report · components\.0\.rows: field required"):
        read_analysis({"components": [{"component": "encoder.0.fc1", "columns": 0.5}]})
    with pytest.raises(InputError, match="shapes without the dense model's · got small · wanted one named dense"):
        widths({"small": SHAPES["small"]})
    with pytest.raises(InputError, match="a shape does not fit the report · decoder: field required"):
        widths({"dense": {"encoder": []}})
