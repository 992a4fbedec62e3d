"""Targets with a vocabulary or a stream of their own, and their budgets."""

from pathlib import Path
from typing import Any

import pytest

from tests.sparsity.small_models import config, model_of
from tprune import rounds, trim
from tprune.config import Target
from tprune.model import checkpoint
from tprune.sparsity import cost


@pytest.mark.parametrize(("fields", "wanted"), [({}, False), ({"hidden": 0.5}, True), ({"vocabulary": 3}, True)])
def test_only_targets_that_say_so_are_trimmed(fields: dict[str, Any], wanted: bool) -> None:
    assert trim.trims(Target.model_validate({"name": "t", **fields})) is wanted


def test_a_share_stays_one_of_the_dense_model(tmp_path: Path) -> None:
    dense, narrow = config(d_model=16, ffn=64), config(d_model=8, ffn=64)
    for name, shapes in (("dense", dense), ("same", dense), ("narrow", narrow)):
        checkpoint.save(model_of(shapes), tmp_path / name)
    target = Target(name="t", keep=0.3, hidden=0.5)
    share = rounds.share_of(target, 1, tmp_path / "dense", tmp_path / "narrow").keep
    assert share * cost.total(narrow, "flops") == pytest.approx(0.3 * cost.total(dense, "flops"))
    assert rounds.share_of(target, 1, tmp_path / "dense", tmp_path / "same") == target
