"""The report's files, and the page in a real browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.rows import EMULATED, PHONE, pruned, row
from tests.benchmarks.test_anatomy import ANALYSIS, SHAPES
from tprune.benchmarks import figures
from tprune.benchmarks.report import write_report
from tprune.benchmarks.standings import planes
from tprune.errors import InputError

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
TIMES = {"dense": {"encoder.ffn": 2.0, "output": 18.0}, "small": {"output": 9.0}}
ROWS = [
    row(),
    pruned(1.2, 0.5),
    pruned(1.7, 2.0),
    pruned(1.9, 6.0),
    row(environment=PHONE),
    pruned(1.4, 2.0, environment=PHONE),
    pruned(7.77, 2.0, environment=EMULATED, model="emulated-model"),
]
PLOTS = {
    "plot-pareto-multi30k-ende-test.2016",
    "plot-times",
    "plot-widths",
    "plot-bssl",
    "plot-sensitivity",
    "plot-training",
}
PICTURES = {
    "pareto-multi30k-ende-test.2016.png",
    "times.png",
    "widths-small.png",
    "bssl.png",
    "sensitivity.png",
    "training.png",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(
        tmp_path_factory.mktemp("run") / "report",
        ROWS,
        title="A <run> & more",
        analysis=ANALYSIS,
        shapes=SHAPES,
        plans={"small": {"score": "shs", "keep": 0.5}},
        training={"dense": [(0, 7.0), (100, 3.0)]},
        times=TIMES,
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not (BROWSER.exists() and DRIVER.exists()):
        pytest.skip("skipped, needs chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


def test_all_files_are_there(page: Path) -> None:
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "report.md", *PICTURES}
    assert all((page.parent / name).read_bytes().startswith(b"\x89PNG") for name in PICTURES)


def test_the_page_draws_every_plot_without_an_error_or_a_request(page: Path, browser: Any) -> None:
    browser.get(page.as_uri())
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')].filter(p => p.querySelector('svg.main-svg'))"
        ".map(p => p.id)"
    )
    assert set(drawn) == PLOTS
    assert browser.get_log("browser") == []
    requests = re.findall(
        r'"url":"((?:https?|wss?):[^"]+)"',
        "".join(
            entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]
        ),
    )
    assert requests == []
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.title == "A <run> & more – tprune"


def test_the_page_tells_the_best_of_each_machine(page: Path, browser: Any) -> None:
    browser.get(page.as_uri())
    cards = [element.text for element in browser.find_elements("css selector", ".card b")]
    assert cards == ["–", "1.40x", "1.40x", "–", "1.70x", "1.90x"]
    assert [element.text for element in browser.find_elements("css selector", ".cards h3")] == [
        "multi30k-ende test.2016 · phone: Pixel 8, Cortex-X3 · fp32",
        "multi30k-ende test.2016 · host (x86): Xeon 8370C · fp32",
    ]
    shown, drawn = browser.execute_script(
        "return [document.body.innerText, JSON.stringify([...document.querySelectorAll('.js-plotly-plot')]"
        ".map(plot => plot.data))]"
    )
    assert "emulated-model" in shown
    assert "7.77" not in shown + drawn


def test_the_markdown_says_the_same(page: Path) -> None:
    text = (page.parent / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# A <run> & more\n\nOn phone: Pixel 8, Cortex-X3, pruned models in fp32 translate")
    assert set(re.findall(r"\]\((.+?\.png)\)", text)) == PICTURES
    assert "emulated-model" in text
    assert "7.77" not in text


def test_a_card_for_each_precision_says_what_pruning_brings_by_itself(tmp_path: Path) -> None:
    rows = [
        row(baseline=None, speedup=None),
        row(precision="int8", speedup=2.0, baseline="dense"),
        pruned(3.0, 0.2, baseline="dense", model="3x"),
        pruned(6.0, 0.2, baseline="dense", model="3x", precision="int8"),
    ]
    page = write_report(tmp_path / "report", rows).read_text(encoding="utf-8")
    cards = [re.sub(r"\s*<[^>]*>\s*", "|", card) for card in page.split('<div class="cards">')[1:]]
    fp32, int8 = (card.split("<section")[0] for card in cards)
    assert "· fp32|" in fp32 and "|3.00x|" in fp32 and "against the dense model in int8" not in fp32
    assert "· int8|" in int8 and "|6.00x|" in int8
    assert "against the dense model in fp32|3.00x against the dense model in int8|" in int8.replace("||", "|")


def test_one_trace_a_series_with_everything_on_hover() -> None:
    (plane,) = planes(ROWS)
    figure = figures.plane_figure(plane)
    points = [trace for trace in figure.data if trace.showlegend is not False]
    assert [trace.name for trace in points] == [series.name for series in plane.series]
    assert points[0].hovertext[2] == (
        "<b>half-1.7</b><br>onnxruntime fp32, 1 thread, greedy, host (x86): Xeon 8370C<br>5.00 M parameters<br>"
        "latency p50 11.8 ms<br>speedup 1.70x (1.65–1.75)<br>BLEU 37.24<br>BLEU loss 2.0 % (≤ 2.6 %)"
    )
    assert list(points[0].text) == ["dense", "", "", ""]
    assert set(points[1].marker.symbol) == {"star"}


def test_doubtful_points_are_hollow() -> None:
    (plane,) = planes([row(), pruned(1.5, 2.0, valid={"ok": False, "reasons": ["hot"]})])
    assert list(figures.plane_figure(plane).data[0].marker.symbol) == ["circle", "circle-open"]


def test_buttons_show_the_dense_outline_and_one_plan() -> None:
    from tprune.benchmarks.anatomy import widths

    panels = widths({**SHAPES, "other": SHAPES["small"]})
    figure = figures.widths_figure(panels)
    for button in figure.layout.updatemenus[0].buttons:
        shown = {trace.name for trace, visible in zip(figure.data, button.args[1], strict=True) if visible}
        assert shown == {"dense", button.label}


def test_a_report_without_anything_measured(tmp_path: Path) -> None:
    page = write_report(tmp_path / "report", [])
    assert "No valid speedup has been measured yet." in page.read_text(encoding="utf-8")
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "report.md"}


def test_a_bad_analysis_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the analysis does not fit the report"):
        write_report(tmp_path / "report", ROWS, analysis={"components": [{}]})
    assert not (tmp_path / "report").exists()


def test_rankings_of_two_machines_have_their_own_pictures(tmp_path: Path) -> None:
    rows = [
        row(model="half.shs", criterion="shs", shape="half", speedup=2.0, environment={"kind": "host-x86", "cpu": cpu})
        for cpu in ("Xeon 8370C", "EPYC 7763")
    ]
    write_report(tmp_path, rows)
    assert len(list(tmp_path.glob("ablation-*.png"))) == 2


def test_what_only_a_device_tells_has_a_table(tmp_path: Path) -> None:
    told = {
        "latency_ms": {"p50": 20.0, "p90": 28.0, "p99": 29.8, "samples": [10.0, 20.0, 30.0]},
        "ms_per_token": 1.234,
        "load_ms": {"p50": 41.0, "samples": [41.0]},
        "first_sentence_ms": {"p50": 63.0, "samples": [63.0]},
        "peak_memory_bytes": 50 * 2**20,
    }
    write_report(tmp_path, [row(environment=PHONE, device="adb:A", pin="big", **told), row()])
    said = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (
        "| dense | onnxruntime fp32, 1 thread, greedy, runner on adb:A, pinned to big "
        "| 20.0 ms | 28.0 ms | 29.8 ms | 1.23 ms | 41 ms | – | 63 ms | 50 MiB |"
    ) in said
