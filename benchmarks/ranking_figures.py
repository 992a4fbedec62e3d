"""The curves of an ablation, interactive (plotly) and as a picture (matplotlib): one color a criterion."""

import plotly.graph_objects as go
from matplotlib.figure import Figure

from tprune.benchmarks.figures import styled
from tprune.benchmarks.palette import GRID, INK, series_color
from tprune.benchmarks.ranking import Ranking, Standing


def curves_figure(ranking: Ranking) -> go.Figure:
    """BLEU over speedup: a line a criterion through its means, bars from the least to the greatest seed."""
    figure = styled(560)
    for criterion, curve in ranking.curves.items():
        means, up, down = _bleu(curve)
        figure.add_trace(
            go.Scatter(
                x=[standing.mean("speedup") for standing in curve],
                y=means,
                error_y={"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1},
                mode="lines+markers",
                name=criterion,
                line={"color": series_color(ranking.criteria.index(criterion)), "width": 2},
                hovertext=[
                    f"<b>{criterion}</b>, {standing.shape}<br>seeds: {len(standing.rows)}" for standing in curve
                ],
                hovertemplate="%{hovertext}<br>%{x:.2f}x, BLEU %{y:.2f}<extra></extra>",
            )
        )
    if ranking.dense_bleu is not None:
        figure.add_trace(
            go.Scatter(
                x=[1.0], y=[ranking.dense_bleu], mode="markers", name="dense",
                marker={"color": INK, "size": 12, "symbol": "diamond"},
            )
        )  # fmt: skip
    figure.update_xaxes(title="speedup against the dense model (times)", ticksuffix="x")
    return figure.update_yaxes(title="BLEU, mean over the seeds")


def curves_picture(ranking: Ranking) -> Figure:
    """The same as a picture."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for criterion, curve in ranking.curves.items():
        means, up, down = _bleu(curve)
        axes.errorbar(
            [standing.mean("speedup") or 0.0 for standing in curve],
            means,
            yerr=[down, up],
            marker="o",
            linewidth=1.6,
            capsize=2,
            color=series_color(ranking.criteria.index(criterion)),
            label=criterion,
        )
    if ranking.dense_bleu is not None:
        axes.plot([1.0], [ranking.dense_bleu], marker="D", linestyle="", color=INK, label="dense")
    axes.set(xlabel="speedup against the dense model (times)", ylabel="BLEU, mean over the seeds", title=ranking.title)
    axes.grid(color=GRID)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _bleu(curve: tuple[Standing, ...]) -> tuple[list[float], list[float], list[float]]:
    """Means, and how far the greatest and the least seed lie from them."""
    values = [standing.values("bleu") for standing in curve]
    means = [sum(seeds) / len(seeds) for seeds in values]
    up = [max(seeds) - mean for seeds, mean in zip(values, means, strict=True)]
    return means, up, [mean - min(seeds) for seeds, mean in zip(values, means, strict=True)]
