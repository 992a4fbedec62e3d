"""Tables in words, and the README's place for them."""

from pathlib import Path

import pytest

from tests.artifacts import error_of
from tests.benchmarks.rows import EMULATED, PHONE, pruned, row
from tprune.benchmarks import record
from tprune.benchmarks.readme import readme_tables, update_readme
from tprune.benchmarks.result_table import measured_table, plan_table, rows_to_markdown
from tprune.errors import InputError
from tprune.json_file import write_json

HOT = {"ok": False, "reasons": ["device was hot"]}
README = "# tprune\n\n<!-- results -->\nold\n<!-- /results -->\n\nmore\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    record.write(folder / "host.json", [pruned(1.6, 2.5), row()])
    record.write(
        folder / "phone.json", [row(environment=PHONE, chrf=None), pruned(2.0, 4.0, environment=PHONE, valid=HOT)]
    )
    return folder


def test_readme_tables_by_test_set_engine_and_machine(results: Path) -> None:
    assert (
        readme_tables(results)["results"]
        == """\
**multi30k-ende test.2016, onnxruntime 1.31.1, host (x86): Xeon 8370C**

| Plan | Precision | Threads | Search | Parameters | Size | p50 | Speedup | BLEU | BLEU loss |
| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| dense | fp32 | 1 | greedy | 9.00 M | 36.00 MB | 20.0 ms | 1.00x | 38.00 | 0.0 % (≤ 0.0 %) |
| half-1.6 | fp32 | 1 | greedy | 5.00 M | 36.00 MB | 12.5 ms | 1.60x (1.55–1.65) | 37.05 | 2.5 % (≤ 3.1 %) |

**multi30k-ende test.2016, onnxruntime 1.31.1, phone: Pixel 8, Cortex-X3**

| Plan | Precision | Threads | Search | Parameters | Size | p50 | Speedup | BLEU | BLEU loss |
| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| dense | fp32 | 1 | greedy | 9.00 M | 36.00 MB | 20.0 ms | 1.00x | 38.00 | 0.0 % (≤ 0.0 %) |
| half-2 | fp32 | 1 | greedy | 5.00 M | 36.00 MB | 10.0 ms | 2.00x (1.94–2.06) † | 36.48 | 4.0 % (≤ 4.6 %) |

† device was hot: half-2, onnxruntime fp32, 1 thread, greedy"""
    )


def test_engines_are_compared_with_their_peer_and_the_floor(results: Path) -> None:
    shared = {"experiment": "decode-base", "speedup": None, "baseline": None}
    peer = row(**shared, engine="ctranslate2", engine_version="4.8.5", floor_ms=16.0)
    times = {"baseline": "ctranslate2", "speedup": 1.6, "speedup_lower": 1.5, "speedup_upper": 1.7}
    ours = row(**(shared | times), floor_ms=8.0)
    (results / "decode").mkdir()
    record.write(results / "decode" / "base.json", [peer, ours])
    assert (
        readme_tables(results)["decode"]
        == """\
**decode-base, host (x86): Xeon 8370C**

| Engine | Size | p50 | Time | Time / floor |
| --- | ---: | ---: | ---: | ---: |
| ctranslate2 fp32, 1 thread, greedy | 36.00 MB | 20.0 ms | – | 1.25 |
| onnxruntime fp32, 1 thread, greedy | 36.00 MB | 20.0 ms | 0.62 (0.59–0.67) of ctranslate2 | 2.50 |"""
    )


def test_no_latency_from_emulation_and_dashes_for_what_is_missing() -> None:
    text = rows_to_markdown([pruned(1.5, 2.0, environment=EMULATED, chrf=None, size_bytes=None)])
    assert (
        "| half-1.5 | onnxruntime fp32, 1 thread, greedy | 5.00 M | – | – | – | – | 37.24 | – | 2.0 % (≤ 2.6 %) |"
    ) in text
    assert "13.3" not in text
    assert "1.50" not in text
    assert "| emulated (Arm64): qemu | 1 | – | 1 of 1 |" in text


def test_seeds_are_shown_when_they_differ() -> None:
    text = rows_to_markdown([pruned(1.5, 2.0, seed=1), pruned(1.5, 2.0, seed=2)])
    assert "| Plan | Seed | Engine |" in text
    assert "| half-1.5 | 2 | onnxruntime" in text


def test_measured_table_counts_rows_samples_and_verdicts() -> None:
    table = measured_table([row(), pruned(1.5, 2.0), pruned(1.7, 2.0, valid=HOT), row(threads=None)])
    assert table.lines == (
        ("onnxruntime 1.31.1", "fp32", "1", "host (x86): Xeon 8370C", "3", "9", "2 of 3; half-1.7: device was hot"),
        ("onnxruntime 1.31.1", "fp32", "–", "host (x86): Xeon 8370C", "1", "3", "1 of 1"),
    )


def test_plan_table_lists_scalar_settings() -> None:
    table = plan_table(
        {"half": {"name": "half", "score": "shs", "keep": 0.5, "groups": {"a": [1]}}, "tiny": {"grid": 8}}
    )
    assert table.heads == ("Plan", "score", "keep", "grid")
    assert table.lines == (("half", "shs", "0.5", "–"), ("tiny", "–", "–", "8"))


def test_a_table_without_a_title_has_none() -> None:
    assert measured_table([row()]).markdown().startswith("| Engine |")
    assert "****" not in rows_to_markdown([row()])


def test_cells_cannot_break_a_markdown_table() -> None:
    assert r"| a\|b |" in rows_to_markdown([row(model="a|b")])


def test_update_readme_replaces_only_what_is_between_the_markers(tmp_path: Path, results: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    assert update_readme(readme, results)
    text = readme.read_text(encoding="utf-8")
    assert text == f"# tprune\n\n<!-- results -->\n\n{readme_tables(results)['results']}\n\n<!-- /results -->\n\nmore\n"
    assert not update_readme(readme, results)


def test_experiments_on_one_machine_stand_apart(results: Path) -> None:
    record.write(results / "again.json", [pruned(1.7, 2.0, experiment="again"), row(experiment="again")])
    titles = [line for line in readme_tables(results)["results"].splitlines() if line.startswith("**")]
    host = "**multi30k-ende test.2016, onnxruntime 1.31.1, host (x86): Xeon 8370C"
    assert len(titles) == 3 and titles[0] == f"{host}: again**" and titles[1].startswith(f"{host}: ")
    assert titles[2] == "**multi30k-ende test.2016, onnxruntime 1.31.1, phone: Pixel 8, Cortex-X3**"


def test_errors_of_predictions(results: Path) -> None:
    folder = results / "table"
    folder.mkdir()
    errors = {"median": 1.04, "p90": 2.5, "largest": 3.96, "bias": -1.0}
    said = {"engine": "onnxruntime", "precision": "int8", "threads": 1, "models": 30, "error_percent": errors}
    said |= {"environment": {"kind": "phone", "cpu": "Tensor"}, "speedup_error_percent": errors | {"median": 0.5}}
    write_json(folder / "prediction-one.json", said)
    write_json(folder / "table.json", {"engine": "no prediction"})
    assert (
        readme_tables(results)["prediction"]
        == """\
**latency tables, phone: Tensor**

| Engine | Precision | Threads | Models | Error of | Median | 90 % below | Largest |
| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |
| onnxruntime | int8 | 1 | 30 | speedup | 0.5 % | 2.5 % | 4.0 % |
| onnxruntime | int8 | 1 | 30 | time | 1.0 % | 2.5 % | 4.0 % |"""
    )
    write_json(folder / "prediction-two.json", {"engine": "onnxruntime"})
    error = error_of(readme_tables, results)
    assert error.startswith(f"{folder / 'prediction-two.json'}: no errors of predictions · got KeyError: 'environment'")


def test_each_text_gets_the_tables_that_it_has_markers_for(tmp_path: Path, results: Path) -> None:
    record.write(results / "small.json", [row(dataset="synthetic", split="test")])
    tables = readme_tables(results)
    assert set(tables) == {"summary", "results", "synthetic"}
    assert "synthetic" not in tables["results"] and "multi30k" not in tables["synthetic"]
    first, second = tmp_path / "README.md", tmp_path / "more.md"
    first.write_text(README, encoding="utf-8")
    second.write_text(
        "<!-- synthetic --><!-- /synthetic -->\n<!-- decode -->\nkept\n<!-- /decode -->\n", encoding="utf-8"
    )
    assert update_readme(first, results) and update_readme(second, results)
    assert tables["synthetic"] not in first.read_text(encoding="utf-8")
    said = second.read_text(encoding="utf-8")
    assert tables["synthetic"] in said and tables["results"] not in said
    assert "<!-- decode -->\nkept\n<!-- /decode -->" in said  # nothing was measured for it


def test_a_text_that_is_not_there(tmp_path: Path, results: Path) -> None:
    with pytest.raises(InputError, match="no such text"):
        update_readme(tmp_path / "README.md", results)


@pytest.mark.parametrize("text", ["# tprune\n", "<!-- /results --> <!-- results -->", "<!-- results -->" * 2])
def test_a_readme_without_its_markers_is_refused(tmp_path: Path, results: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="no place for the results"):
        update_readme(readme, results)
    assert readme.read_text(encoding="utf-8") == text
