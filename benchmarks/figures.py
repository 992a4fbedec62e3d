"""The report's interactive figures (plotly)."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tprune.benchmarks.anatomy import Curve, Heat, Panel
from tprune.benchmarks.palette import GRID, HEAT, INK, PAPER, QUIET, component_colors, series_color
from tprune.benchmarks.result_table import loss, millions, milliseconds, speedup
from tprune.benchmarks.standings import PAPER_LOSS_PERCENT, PAPER_SPEEDUP, Plane, Point, Series, machine, setting

SYMBOLS = {"phone": "star", "sbc": "diamond", "host-x86": "circle", "host-arm64": "square"}


def plane_figure(plane: Plane) -> go.Figure:
    """Speedup against BLEU: one trace a series, its front as a line, the paper's range behind."""
    below = 30 * len(plane.series)  # the legend, one line a series
    figure = styled(560 + below)
    if plane.dense_bleu is not None:
        low, high = (plane.dense_bleu * (1 - percent / 100) for percent in reversed(PAPER_LOSS_PERCENT))
        figure.add_shape(
            type="rect",
            x0=PAPER_SPEEDUP[0],
            x1=PAPER_SPEEDUP[1],
            y0=low,
            y1=high,
            layer="below",
            fillcolor="#fff3bf",
            opacity=0.55,
            line_width=0,
        )
        figure.add_annotation(
            x=PAPER_SPEEDUP[1],
            y=low,
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            text="TPrune 2021, phones: 1.16x–1.92x at 0–8 % loss",
            font={"color": QUIET, "size": 12},
        )
    figure.add_vline(x=1, line={"color": QUIET, "dash": "dot", "width": 1})
    for index, series in enumerate(plane.series):
        color = series_color(index)
        figure.add_trace(
            go.Scatter(
                x=[point.speedup for point in series.points],
                y=[point.bleu for point in series.points],
                mode="markers+text",
                name=series.name,
                legendgroup=series.name,
                text=["dense" if point.row.dense else "" for point in series.points],
                textposition="top center",
                textfont={"color": QUIET, "size": 11},
                hovertext=[_hover(point) for point in series.points],
                hovertemplate="%{hovertext}<extra></extra>",
                marker={
                    "color": color,
                    "symbol": [_symbol(series, point) for point in series.points],
                    "size": [15 if point.row.dense else 12 for point in series.points],
                    "line": {
                        "color": [INK if point.row.dense else color for point in series.points],
                        "width": [2.5 if point.row.dense else 1.5 for point in series.points],
                    },
                },
            )
        )
        figure.add_trace(
            go.Scatter(
                x=[point.speedup for point in series.front],
                y=[point.bleu for point in series.front],
                mode="lines",
                line={"color": color, "width": 1.5},
                opacity=0.45,
                legendgroup=series.name,
                showlegend=False,
                hoverinfo="skip",
            )
        )
    figure.update_xaxes(title="speedup against the dense model (times)", ticksuffix="x")
    figure.update_yaxes(title="BLEU")
    return figure.update_layout(
        margin={"b": 80 + below}, legend={"yref": "container", "y": 0, "yanchor": "bottom", "x": 0}
    )


def heat_figure(heat: Heat) -> go.Figure:
    """Share of sparse lines by layer and projection, rows and columns side by side."""
    figure = styled(
        230 + 34 * len(heat.layers),
        make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=("rows", "columns")),
    )
    for place, grid in enumerate((heat.rows, heat.columns), start=1):
        percent = [[None if share is None else 100 * share for share in line] for line in grid]
        figure.add_trace(
            go.Heatmap(
                z=percent,
                x=heat.projections,
                y=heat.layers,
                coloraxis="coloraxis",
                xgap=2,
                ygap=2,
                text=[["" if share is None else f"{share:.0f}" for share in line] for line in percent],
                texttemplate="%{text}",
                hovertemplate="%{y} %{x}: %{z:.1f} % sparse<extra></extra>",
            ),
            row=1,
            col=place,
        )
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False).update_yaxes(ticks="", col=2)
    figure.update_xaxes(showgrid=False, tickangle=-40)
    return figure.update_layout(
        coloraxis={
            "cmin": 0,
            "cmax": 100,
            "colorscale": [[step / 4, color] for step, color in enumerate(HEAT)],
            "colorbar": {"title": "sparse lines", "ticksuffix": " %", "thickness": 14},
        }
    )


def sensitivity_figure(curves: Mapping[str, Sequence[Curve]]) -> go.Figure:
    """Rise of the validation loss over the share masked, one panel for each kind of unit."""
    colors = component_colors(curve.component for kind in curves.values() for curve in kind)
    figure = styled(
        max(460, 150 + 30 * len(colors)),
        make_subplots(cols=len(curves), horizontal_spacing=0.06, subplot_titles=[f"unit: {kind}" for kind in curves]),
    )
    shown: set[str] = set()
    for place, kind in enumerate(curves.values(), start=1):
        for curve in kind:
            figure.add_trace(
                go.Scatter(
                    x=[100 * share for share in curve.shares],
                    y=curve.rises,
                    mode="lines+markers",
                    name=curve.component,
                    legendgroup=curve.component,
                    showlegend=curve.component not in shown,
                    line={"color": colors[curve.component], "width": 2},
                    marker={"size": 5},
                    hovertemplate=f"{curve.component}: %{{x:.0f}} % masked, loss +%{{y:.3f}}<extra></extra>",
                ),
                row=1,
                col=place,
            )
            shown.add(curve.component)
    figure.update_xaxes(title="units masked", ticksuffix=" %", range=(-4, 104), dtick=50)
    return figure.update_yaxes(title="rise of the validation loss (nats per token)", col=1)


def widths_figure(widths: Mapping[str, Sequence[Panel]]) -> go.Figure:
    """Kept widths over the layers inside the dense outline; a button for each plan."""
    panels = next(iter(widths.values()))
    titles = {(panel.line, panel.place): panel.title for panel in panels}
    figure = styled(
        680,
        make_subplots(
            rows=3,
            cols=4,
            vertical_spacing=0.11,
            horizontal_spacing=0.06,
            subplot_titles=[titles.get((line, place), "") for line in range(3) for place in range(4)],
            specs=[[{}] * 4, [{}] * 4, [{}, {}, {}, None]],
        ),
    )
    for panel in panels:
        figure.add_trace(
            go.Bar(
                x=[str(index) for index in range(len(panel.dense))],
                y=panel.dense,
                name="dense",
                hoverinfo="skip",
                marker={"color": "rgba(0,0,0,0)", "line": {"color": QUIET, "width": 1.5}},
                legendgroup="dense",
                showlegend=panel is panels[0],
            ),
            row=panel.line + 1,
            col=panel.place + 1,
        )
    for index, (plan, kept) in enumerate(widths.items()):
        for panel in kept:
            figure.add_trace(
                go.Bar(
                    x=[str(index) for index in range(len(panel.kept))],
                    y=panel.kept,
                    name=plan,
                    visible=index == 0,
                    opacity=0.85,
                    marker={"color": series_color(index)},
                    legendgroup=plan,
                    showlegend=panel is kept[0],
                    hovertemplate=f"{panel.title}, layer %{{x}}: %{{y}} kept<extra>{plan}</extra>",
                ),
                row=panel.line + 1,
                col=panel.place + 1,
            )
    buttons = [
        {
            "label": plan,
            "method": "restyle",
            "args": ["visible", [True] * len(panels) + [other == plan for other in widths for _ in panels]],
        }
        for plan in widths
    ]
    figure.update_xaxes(showgrid=False, type="category")
    return figure.update_layout(
        barmode="overlay",
        bargap=0.25,
        margin={"t": 90},
        legend={"orientation": "h", "y": 1.13, "x": 1, "xanchor": "right"},
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "x": 0,
                "xanchor": "left",
                "y": 1.15,
                "buttons": buttons,
                "bgcolor": PAPER,
                "bordercolor": GRID,
            }
        ],
    )


def times_figure(times: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Predicted time of a sentence by component, one bar for each model."""
    figure = styled(140 + 34 * len(times))
    for index, component in enumerate(dict.fromkeys(name for parts in times.values() for name in parts)):
        figure.add_trace(
            go.Bar(
                y=list(times),
                x=[parts.get(component) for parts in times.values()],
                orientation="h",
                name=component,
                marker={"color": series_color(index)},
                hovertemplate=f"{component}: %{{x:.2f}} ms<extra></extra>",
            )
        )
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    figure.update_xaxes(title="predicted time of a sentence (ms)")
    return figure.update_layout(
        barmode="stack", legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "traceorder": "normal"}
    )


def training_figure(training: Mapping[str, Sequence[tuple[int, float]]]) -> go.Figure:
    """Loss over training steps, one line for each run."""
    figure = styled(420)
    for index, (name, points) in enumerate(training.items()):
        figure.add_trace(
            go.Scatter(
                x=[step for step, _ in points],
                y=[value for _, value in points],
                mode="lines",
                name=name,
                line={"color": series_color(index), "width": 2},
                hovertemplate="step %{x}: %{y:.3f}<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(title="step")
    return figure.update_yaxes(title="loss (nats per token)")


def styled(height: int, figure: go.Figure | None = None) -> go.Figure:
    """A figure in the report's colors, fonts and margins."""
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True, "title": {"standoff": 12}}
    figure = go.Figure() if figure is None else figure
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure.update_layout(
        template="none",
        height=height,
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        font={"family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 13, "color": INK},
        margin={"l": 70, "r": 24, "t": 44, "b": 60},
        hoverlabel={"bgcolor": PAPER, "font": {"color": INK, "size": 13}},
    )


def _symbol(series: Series, point: Point) -> str:
    return SYMBOLS[series.kind] + ("" if point.row.valid.ok else "-open")


def _hover(point: Point) -> str:
    row = point.row
    facts = [
        f"<b>{row.model}</b>",
        f"{setting(row)}, {machine(row.environment)}",
        f"{millions(row.parameters, 'M')} parameters",
        f"latency p50 {milliseconds(row, 'p50')}",
        f"speedup {speedup(row)}",
        f"BLEU {point.bleu:.2f}",
        f"BLEU loss {loss(row)}",
        *(f"not valid: {reason}" for reason in row.valid.reasons),
    ]
    return "<br>".join(facts)
