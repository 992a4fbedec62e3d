"""Rankings: means over seeds by hand, the order, and one color a criterion."""

from typing import Any

import pytest

from tests.benchmarks.rows import row
from tprune.benchmarks.palette import INK, series_color
from tprune.benchmarks.ranking import ranking_tables, rankings
from tprune.benchmarks.ranking_figures import curves_figure, curves_picture
from tprune.benchmarks.record import Row


def measured(criterion: str, shape: str, seed: int, speedup: float, bleu: float, **rest: Any) -> Row:
    loss = 100 * (40 - bleu) / 40
    return row(
        model=f"{shape}.{criterion}", criterion=criterion, shape=shape, seed=seed, speedup=speedup, bleu=bleu,
        bleu_loss_percent=loss, **rest,
    )  # fmt: skip


ROWS = [
    row(model="dense", bleu=40.0, speedup=None, baseline=None),
    measured("random", "half", 1, 2.0, 30.0),
    measured("random", "half", 2, 2.2, 32.0),
    measured("shs", "half", 1, 2.1, 39.0, valid_bleu=41.0),
    measured("shs", "third", 1, 3.1, 36.0, valid_bleu=38.0),
]


def test_means_and_ends_of_the_seeds() -> None:
    (ranking,) = rankings(ROWS)
    assert ranking.dense_bleu == 40
    standing = ranking.curves["random"][0]
    assert standing.mean("speedup") == pytest.approx(2.1)
    assert standing.mean("bleu") == pytest.approx(31.0)
    assert standing.mean("valid_bleu") is None
    assert [each.shape for each in ranking.curves["shs"]] == ["half", "third"]
    tables = {table.title.partition(":")[0]: table for table in ranking_tables(ROWS)}
    parameters = f"{ROWS[1].parameters / 1e6:.2f} M" if ROWS[1].parameters else "–"
    assert tables["half"].lines == (
        ("shs", "1", parameters, "2.10x", "39.00", "2.5 %", "41.00"),
        ("random", "2", parameters, "2.10x (2.00–2.20)", "31.00 (30.00–32.00)", "22.5 % (20.0–25.0)", "–"),
    )
    assert [line[0] for line in tables["third"].lines] == ["shs"]


def test_what_may_not_be_quoted_is_marked() -> None:
    hot = {"ok": False, "reasons": ["hot"]}
    first, second = ranking_tables([ROWS[0], ROWS[1], measured("random", "half", 2, 2.2, 32.0, valid=hot), ROWS[4]])
    assert first.lines[0][3] == "2.10x (2.00–2.20) †"
    assert first.notes == ("† random: hot",)
    assert second.lines[0][3] == "3.10x"
    assert second.notes == ()


def test_rows_that_name_no_criterion_are_no_ablation() -> None:
    assert rankings([row(model="dense"), row(model="flops-50")]) == []


def test_figure_and_picture_show_the_same_curves_in_the_same_colors() -> None:
    (ranking,) = rankings(ROWS)
    figure, picture = curves_figure(ranking), curves_picture(ranking)
    lines = {trace.name: trace for trace in figure.data}
    assert set(lines) == {"random", "shs", "dense"}
    assert [lines[name].line.color for name in ("random", "shs")] == [series_color(0), series_color(1)]
    assert list(lines["random"].error_y.array) == list(lines["random"].error_y.arrayminus) == [pytest.approx(1.0)]
    assert lines["dense"].marker.color == INK
    drawn: dict[Any, Any] = {line.get_label(): line for line in picture.axes[0].containers}
    for name in ("random", "shs"):
        points = drawn[name].lines[0]
        assert points.get_color() == lines[name].line.color
        assert list(points.get_xdata()) == pytest.approx(list(lines[name].x))
        assert list(points.get_ydata()) == pytest.approx(list(lines[name].y))
