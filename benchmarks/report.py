"""The report: one self-contained HTML page, the same as Markdown, and pictures.

report/index.html   everything in it, plotly.js too: opens without a network
report/report.md    the same tables, with the pictures
report/*.png        the pictures
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tprune.benchmarks import anatomy, figures, pictures, ranking_figures
from tprune.benchmarks.headlines import LIMITS_PERCENT, headlines, lost, pruning_share, sentence
from tprune.benchmarks.ranking import place, ranking_tables, rankings
from tprune.benchmarks.record import Row
from tprune.benchmarks.result_table import device_tables, measured_table, plan_table, result_tables
from tprune.benchmarks.standings import machine, planes, setting
from tprune.benchmarks.text_table import Table
from tprune.disk import make_folder
from tprune.provenance import made_by

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

PAGE, TEXT = "index.html", "report.md"
NOTHING = "No valid speedup has been measured yet."
# the page never talks to a server, not even on a click
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d"],
}


@dataclass(frozen=True)
class Section:
    """One part of the report: words, then a figure or tables or both."""

    anchor: str
    title: str
    caption: str
    figure: "go.Figure | None" = None
    pictures: Mapping[str, "Figure"] | None = None
    tables: tuple[Table, ...] = ()


def write_report(
    out_dir: Path,
    rows: Sequence[Row],
    *,
    title: str = "Pruned translation models",
    analysis: Mapping[str, Any] | None = None,
    plans: Mapping[str, Mapping[str, Any]] | None = None,
    shapes: Mapping[str, Mapping[str, Any]] | None = None,
    training: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    times: Mapping[str, Mapping[str, float]] | None = None,
) -> Path:
    """Write `index.html`, `report.md` and the pictures.

    Args:
        out_dir: Folder to write into; made if it is not there.
        rows: Measured models.
        title: Heading of the page, such as the recipe's name.
        analysis: BSSL's `components`, `sensitivity` and `dense`.
        plans: How each plan was made, by name: its scalar settings are listed.
        shapes: Model configurations by plan name, and `dense`.
        training: (step, loss in nats per token) of each training run, by name.
        times: Predicted ms of a sentence, by model and component.

    Returns:
        Path of the page.

    Raises:
        InputError: Analysis or shapes of another form, or a folder that cannot be made; nothing is written then.
    """
    sections = [*_results(rows), *_anatomy(analysis, shapes, times), *_making(plans, training), _measured(rows)]
    best = headlines(rows)
    summary = [sentence(headline) for headline in best] or [NOTHING]
    page = _template().render(
        title=title,
        summary=summary,
        headlines=best,
        limits=LIMITS_PERCENT,
        made_by=made_by(),
        plotly_js=_plotly_js(),
        sections=[(section, _embed(section)) for section in sections],
    )
    make_folder(out_dir, out_dir)
    for section in sections:
        for name, picture in (section.pictures or {}).items():
            picture.savefig(out_dir / f"{name}.png", dpi=pictures.DPI)
    (out_dir / TEXT).write_text(_markdown(title, summary, sections), encoding="utf-8")
    (out_dir / PAGE).write_text(page, encoding="utf-8")
    return out_dir / PAGE


def _results(rows: Sequence[Row]) -> Iterator[Section]:
    for plane in planes(rows):
        name = _file_stem(f"pareto-{plane.dataset}-{plane.split}")
        yield Section(
            name,
            f"Speedup versus BLEU: {plane.dataset} {plane.split}",
            "Further right is faster, further up is better; a line joins the models that no other one of "
            "their series beats in both. Dark edges: dense. Hollow: not valid. Stars: phones; circles: host "
            "(x86). Click a name to hide it.",
            figures.plane_figure(plane),
            {name: pictures.plane_picture(plane)},
        )
    if rows:
        yield Section(
            "results",
            "Results",
            "Latency of one sentence at a time. Speedup with its 95 % interval over "
            "rounds; BLEU loss relative to the dense model, in parentheses the bound it stays below with "
            "95 % confidence. – means not measured.",
            tables=(*result_tables(rows), *device_tables(rows)),
        )
    for ranking in rankings(rows):
        name = _file_stem("-".join(("ablation", *ranking.where)))
        yield Section(
            name,
            f"Criteria: {ranking.title}",
            "One color a criterion; a line joins its shapes. Means over the seeds, bars from the least to the "
            "greatest. The tables rank the criteria on each shape by the loss of BLEU.",
            ranking_figures.curves_figure(ranking) if ranking.curves else None,
            {name: ranking_figures.curves_picture(ranking)} if ranking.curves else None,
            tuple(ranking_tables(row for row in rows if place(row) == ranking.where)),
        )


def _anatomy(
    analysis: Mapping[str, Any] | None,
    shapes: Mapping[str, Mapping[str, Any]] | None,
    times: Mapping[str, Mapping[str, float]] | None,
) -> Iterator[Section]:
    if times:
        yield Section(
            "times",
            "Where the time goes",
            "What the latency table that the plans were made with says of a sentence, component by component: "
            "the sum predicts a model's time, the results above are what was measured.",
            figures.times_figure(times),
            {"times": pictures.times_picture(times)},
        )
    if shapes and (widths := anatomy.widths(shapes)):
        yield Section(
            "widths",
            "What was kept",
            "Widths by layer: the outline is the dense model, the bar what the "
            "plan keeps. Models with fewer layers end earlier; their layers are counted anew.",
            figures.widths_figure(widths),
            {_file_stem(f"widths-{plan}"): pictures.widths_picture(plan, panels) for plan, panels in widths.items()},
        )
    read = anatomy.read_analysis(analysis or {})
    if read.components:
        heat = anatomy.heat(read)
        yield Section(
            "bssl",
            "Which lines are sparse (BSSL)",
            "Share of sparse lines after every block's own group "
            "lasso. The rows of q, k, v and fc1 and the columns of o and fc2 can go without touching the "
            "model's width.",
            figures.heat_figure(heat),
            {"bssl": pictures.heat_picture(heat)},
        )
    if curves := anatomy.curves(read):
        yield Section(
            "sensitivity",
            "How much each component matters",
            "Rise of the validation loss when a share of "
            "one component's units is masked and nothing is retrained; flat curves are safe to prune.",
            figures.sensitivity_figure(curves),
            {"sensitivity": pictures.sensitivity_picture(curves)},
        )


def _making(
    plans: Mapping[str, Mapping[str, Any]] | None, training: Mapping[str, Sequence[tuple[int, float]]] | None
) -> Iterator[Section]:
    if plans:
        yield Section(
            "plans", "How the plans were made", "Settings of scoring and planning.", tables=(plan_table(plans),)
        )
    if training:
        yield Section(
            "training",
            "Training",
            "Loss over the steps of each run.",
            figures.training_figure(training),
            {"training": pictures.training_picture(training)},
        )


def _file_stem(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def _measured(rows: Sequence[Row]) -> Section:
    return Section(
        "measured",
        "What was measured where",
        "Emulation checks that a bundle works; it says nothing about "
        "time, so no latency is shown from it. Host (x86) latency is no phone latency.",
        tables=(measured_table(rows),),
    )


def _markdown(title: str, summary: Sequence[str], sections: Sequence[Section]) -> str:
    parts = [f"# {title}", *summary]
    for section in sections:
        parts += [
            f"## {section.title}",
            section.caption,
            *(table.markdown() for table in section.tables),
            *(f"![{section.title}]({name}.png)" for name in section.pictures or {}),
        ]
    return "\n\n".join(parts) + "\n"


def _embed(section: Section) -> str:
    if section.figure is None:
        return ""
    return str(
        section.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"plot-{section.anchor}",
            default_height=section.figure.layout.height,
            config=CONFIG,
        )
    )


def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _template() -> Any:
    loader = PackageLoader("tprune.benchmarks", package_path="")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"machine": machine, "setting": setting, "lost": lost, "pruning": pruning_share}
    return environment.get_template("page.html")
