"""The report's pictures (matplotlib), for Markdown and papers; the same views as the figures."""

from collections.abc import Mapping, Sequence
from math import isnan

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from tprune.benchmarks.anatomy import Curve, Heat, Panel
from tprune.benchmarks.palette import GRID, HEAT, INK, QUIET, component_colors, series_color
from tprune.benchmarks.standings import PAPER_LOSS_PERCENT, PAPER_SPEEDUP, Plane

DPI = 120
MARKERS = {"phone": "*", "sbc": "D", "host-x86": "o", "host-arm64": "s"}


def plane_picture(plane: Plane) -> Figure:
    """Speedup against BLEU; dense models have a dark edge, doubtful ones are hollow."""
    figure = Figure(figsize=(9, 6.2 + 0.2 * len(plane.series)), layout="constrained")
    axes = figure.subplots()
    if plane.dense_bleu is not None:
        low, high = (plane.dense_bleu * (1 - percent / 100) for percent in reversed(PAPER_LOSS_PERCENT))
        axes.fill_between(
            PAPER_SPEEDUP,
            low,
            high,
            color="#fff3bf",
            alpha=0.55,
            linewidth=0,
            label="TPrune 2021, phones: 1.16x–1.92x at 0–8 % loss",
        )
    axes.axvline(1, color=QUIET, linestyle=":", linewidth=1)
    for index, series in enumerate(plane.series):
        color = series_color(index)
        axes.plot(
            [point.speedup for point in series.front],
            [point.bleu for point in series.front],
            color=color,
            linewidth=1,
            marker=MARKERS[series.kind],
            label=series.name,
        )
        axes.scatter(
            [point.speedup for point in series.points],
            [point.bleu for point in series.points],
            s=60,
            marker=MARKERS[series.kind],
            c=[color if point.row.valid.ok else "#ffffff" for point in series.points],
            edgecolors=[INK if point.row.dense else color for point in series.points],
            linewidths=1.6,
            zorder=3,
        )
    axes.set(xlabel="speedup against the dense model (times)", ylabel="BLEU", title=f"{plane.dataset} {plane.split}")
    axes.grid(color=GRID)
    figure.legend(loc="outside lower left", fontsize=8, frameon=False)
    return figure


def heat_picture(heat: Heat) -> Figure:
    """Share of sparse lines by layer and projection, rows and columns side by side."""
    figure = Figure(figsize=(2 + 1.1 * len(heat.projections), 2 + 0.36 * len(heat.layers)), layout="constrained")
    colors = LinearSegmentedColormap.from_list("sparse", HEAT)
    panels = figure.subplots(ncols=2, sharey=True, squeeze=False)[0]
    for axes, title, grid in zip(panels, ("rows", "columns"), (heat.rows, heat.columns), strict=True):
        percent = [[float("nan") if share is None else 100 * share for share in line] for line in grid]
        image = axes.imshow(percent, cmap=colors, vmin=0, vmax=100, aspect="auto")
        for y, line in enumerate(percent):
            for x, share in enumerate(line):
                if not isnan(share):
                    axes.text(
                        x, y, f"{share:.0f}", ha="center", va="center", fontsize=8, color="white" if share > 60 else INK
                    )
        axes.set(title=title)
        axes.set_xticks(range(len(heat.projections)), heat.projections, rotation=40, ha="right")
        axes.set_yticks(range(len(heat.layers)), heat.layers)
    figure.colorbar(image, ax=list(panels), label="sparse lines (%)")
    return figure


def sensitivity_picture(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Rise of the validation loss over the share masked, one panel for each kind of unit."""
    figure = Figure(figsize=(4.2 * len(curves) + 2.4, 4.4), layout="constrained")
    colors = component_colors(curve.component for kind in curves.values() for curve in kind)
    panels = figure.subplots(ncols=len(curves), squeeze=False)[0]
    handles = {}
    for axes, (kind, lines) in zip(panels, curves.items(), strict=True):
        for curve in lines:
            handles[curve.component] = axes.plot(
                [100 * share for share in curve.shares],
                curve.rises,
                marker="o",
                markersize=3,
                color=colors[curve.component],
            )[0]
        axes.set(title=f"unit: {kind}", xlabel="units masked (%)")
        axes.grid(color=GRID)
    panels[0].set(ylabel="rise of the validation loss (nats per token)")
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8, frameon=False)
    return figure


def widths_picture(plan: str, panels: Sequence[Panel]) -> Figure:
    """Kept widths of one plan over the layers inside the dense outline."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    grid = figure.subplots(3, 4)
    grid[2][3].axis("off")
    for panel in panels:
        axes = grid[panel.line][panel.place]
        axes.bar(range(len(panel.dense)), panel.dense, facecolor="none", edgecolor=QUIET, label="dense")
        axes.bar(range(len(panel.kept)), panel.kept, color=series_color(0), alpha=0.85, label="kept")
        axes.set_title(panel.title, fontsize=9)
        axes.set_xticks(range(len(panel.dense)))
    figure.suptitle(f"{plan}: kept widths by layer, dense outlined")
    return figure


def times_picture(times: Mapping[str, Mapping[str, float]]) -> Figure:
    """Predicted time of a sentence by component, one bar for each model."""
    figure = Figure(figsize=(9, 1.6 + 0.34 * len(times)), layout="constrained")
    axes = figure.subplots()
    places = range(len(times))
    left = [0.0] * len(times)
    for index, component in enumerate(dict.fromkeys(name for parts in times.values() for name in parts)):
        spent = [parts.get(component, 0.0) for parts in times.values()]
        axes.barh(places, spent, left=left, color=series_color(index), label=component)
        left = [before + more for before, more in zip(left, spent, strict=True)]
    axes.set_yticks(places, list(times), fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="predicted time of a sentence (ms)")
    axes.legend(frameon=False)
    return figure


def training_picture(training: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Loss over training steps, one line for each run."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, points) in enumerate(training.items()):
        axes.plot([step for step, _ in points], [loss for _, loss in points], color=series_color(index), label=name)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.grid(color=GRID)
    axes.legend(frameon=False)
    return figure
