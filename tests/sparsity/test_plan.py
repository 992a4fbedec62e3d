"""Plans as data: what is refused, in which words, and the round trip through `plan.json`."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sparsity.small_models import config, configs, plans
from tprune.errors import ArtifactError, PlanError
from tprune.sparsity import plan

SHAPES = config(heads=2, width=3, ffn=4, depth=2)
FIX = "make a plan for this model with `tprune prune`"


def refusal(keep: dict[str, tuple[int, ...]]) -> list[str]:
    with pytest.raises(PlanError) as caught:
        plan.make("p", SHAPES, keep, {})
    assert str(caught.value) == (
        f"plan p: the plan does not fit the model · {'; '.join(caught.value.problems)} · {FIX}"
    )
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("keep", "problem"),
    [
        ({"encoder.7.ffn": (0,)}, "encoder.7.ffn: no such group"),
        ({"encoder.0.fc1": (0,)}, "encoder.0.fc1: no such group"),
        ({"encoder.0.ffn": (0, 4)}, "encoder.0.ffn: units must rise from 0 to at most 3"),
        ({"encoder.0.ffn": (-1, 2)}, "encoder.0.ffn: units must rise from 0 to at most 3"),
        ({"encoder.0.ffn": (2, 1)}, "encoder.0.ffn: units must rise from 0 to at most 3"),
        ({"encoder.0.ffn": (1, 1)}, "encoder.0.ffn: units must rise from 0 to at most 3"),
        ({"decoder.layer": (2,)}, "decoder.layer: units must rise from 0 to at most 1"),
        ({"encoder.0.ffn": ()}, "encoder.0.ffn: keeps nothing; drop the sub-layer in its `sublayer` group instead"),
        (
            {"encoder.0.self_attn.head": ()},
            "encoder.0.self_attn.head: keeps nothing; drop the sub-layer in its `sublayer` group instead",
        ),
        (
            {"encoder.0.self_attn.qk": ()},
            "encoder.0.self_attn.qk: keeps nothing; drop the sub-layer in its `sublayer` group instead",
        ),
        ({"decoder.layer": ()}, "decoder.layer: keeps nothing; keep at least one layer"),
        (
            {"decoder.0.cross_attn.vo": (0, 1, 3)},
            "decoder.0.cross_attn.vo: the heads of an attention must keep equally many units",
        ),
        (
            {"decoder.0.cross_attn.vo": (0, 1)},
            "decoder.0.cross_attn.vo: the heads of an attention must keep equally many units",
        ),
        (
            {"decoder.0.cross_attn.head": (0,), "decoder.0.cross_attn.qk": (0, 3)},
            "decoder.0.cross_attn.qk: lists units of a dropped head",
        ),
        (
            {"decoder.0.cross_attn.qk": (0,), "decoder.0.cross_attn.head": (-1, 0)},
            "decoder.0.cross_attn.head: units must rise from 0 to at most 1",
        ),
        (
            {"decoder.0.cross_attn.qk": (0,), "decoder.0.cross_attn.head": (5, 0)},
            "decoder.0.cross_attn.head: units must rise from 0 to at most 1",
        ),
        ({"vocab": (0, 5)}, "vocab: special tokens must stay: 1"),
        ({"output": (2, 23)}, "output: units must rise from 0 to at most 22"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(keep: dict[str, tuple[int, ...]], problem: str) -> None:
    assert refusal(keep) == [problem]


def test_all_problems_at_once() -> None:
    keep = {"encoder.0.ffn": (9,), "nowhere": (0,), "decoder.0.cross_attn.vo": (0,), "decoder.1.ffn": (0, 1)}
    assert refusal(keep) == [
        "nowhere: no such group",
        "encoder.0.ffn: units must rise from 0 to at most 3",
        "decoder.0.cross_attn.vo: the heads of an attention must keep equally many units",
    ]


def test_a_plan_for_another_model_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        plan.check(plan.make("p", SHAPES, {}, {}), config(heads=2, width=3, ffn=5, depth=1))
    assert str(caught.value) == (
        "plan p: this plan was made for another model · "
        "got d16 vocabulary 23 encoder [2x3,3/4 2x3,3/4] decoder [2x3,3/2x3,3/4 2x3,3/2x3,3/4] · "
        f"wanted d16 vocabulary 23 encoder [2x3,3/5] decoder [2x3,3/2x3,3/5] · {FIX}"
    )


def test_a_plan_from_before_vocabularies_is_read_while_it_leaves_them_alone() -> None:
    made = plan.make("p", SHAPES, {"encoder.0.ffn": (0, 2)}, {})
    old = made.model_copy(update={"shapes": {key: made.shapes[key] for key in ("d_model", "encoder", "decoder")}})
    plan.check(old, SHAPES)
    with pytest.raises(PlanError, match="this plan was made for another model"):
        plan.check(old.model_copy(update={"keep": {"output": (0, 1, 2)}}), SHAPES)


def test_a_dropped_sublayer_may_empty_its_group() -> None:
    shapes = plan.pruned_shapes(SHAPES, plan.make("p", SHAPES, {"encoder.1.sublayer": ()}, {}))
    assert shapes["encoder"][1]["ffn"] == 0
    assert shapes["encoder"][1]["self_attn"]["heads"] == 0
    assert shapes["encoder"][1]["self_attn"]["scale"] == 0.4


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_round_trip_through_json(data: st.DataObject) -> None:
    shapes = data.draw(configs())
    drawn = data.draw(plans(shapes))
    again = plan.Plan.model_validate(json.loads(json.dumps(drawn.model_dump(mode="json", by_alias=True))))
    assert again == drawn
    plan.check(again, shapes)


def test_reading_a_file_or_its_directory(tmp_path: Path) -> None:
    made = plan.make("p", SHAPES, {"encoder.0.ffn": (0, 2)}, {"score": "shs", "keep": 0.5})
    plan.write(made, tmp_path / "plan.json")
    assert plan.read(tmp_path) == plan.read(tmp_path / "plan.json") == made
    stored = json.loads((tmp_path / "plan.json").read_text())
    assert stored["schema"] == 1
    assert stored["keep"] == {"encoder.0.ffn": [0, 2]}
    assert stored["how"] == {"score": "shs", "keep": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "plan of an unknown schema · got 2 · wanted 1 · make it again with this version of tprune"),
        ({"code": "x"}, "not a plan · unknown key code · make it with `tprune prune`"),
        ({"name": None}, "not a plan · name: input should be a valid string (got None) · make it with `tprune prune`"),
    ],
)
def test_foreign_json_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "plan.json"
    plan.write(plan.make("p", SHAPES, {}, {}), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PlanError) as caught:
        plan.read(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_missing_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as missing:
        plan.read(tmp_path)
    assert str(missing.value) == f"{tmp_path / 'plan.json'}: no such file · check the path"
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"not valid JSON .* make the damaged file again"):
        plan.read(tmp_path)
