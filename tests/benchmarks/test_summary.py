"""The measured models at a glance: a line each, with what every engine brings it."""

from tests.benchmarks.rows import EMULATED, PHONE, pruned, row
from tprune.benchmarks.summary import summary_tables

ET = {"engine": "executorch", "engine_version": "1.4.1"}
DENSE = {"speedup": None, "baseline": None, "bleu_loss_percent": None, "bleu_loss_upper_percent": None}


def test_a_line_a_model_and_a_column_an_engine_and_precision() -> None:
    rows = [
        pruned(4.0, 3.0, model="small", experiment="b"),
        row(**DENSE, experiment="b"),
        pruned(2.0, 1.0, model="half", seed=2, valid={"ok": False, "reasons": ["hot"]}),
        pruned(3.0, 1.5, model="half", seed=1, **ET),
        pruned(5.0, 2.0, model="half", seed=1, precision="int8", **ET),
        pruned(2.5, 1.5, model="half", seed=1),
        pruned(1.5, 1.2, model="half", seed=1, decode="beam5"),
        pruned(1.2, 0.5, model="wide", seed=1, engine="pytorch"),
        row(**DENSE, seed=None),
        row(**{**DENSE, "speedup": 1.4, "baseline": "dense onnxruntime fp32"}, precision="int8", **ET),
        pruned(9.0, 0.5, model="wide", environment=EMULATED),
        pruned(9.0, 0.5, model="wide", decode="beam3", latency_ms=None),
    ]
    table, beam = summary_tables(rows)
    assert table.title == "multi30k-ende test.2016, greedy, 1 thread, host (x86): Xeon 8370C"
    assert table.heads[4:] == ("pytorch fp32", "onnxruntime fp32", "executorch fp32", "executorch int8")
    assert table.lines == (
        ("b", "dense", "38.00", "–", "–", "–", "–", "–"),
        ("b", "small", "36.86", "3.0 % (≤ 3.6 %)", "–", "4.00x", "–", "–"),
        ("handmade", "dense", "38.00", "–", "–", "–", "–", "1.40x"),
        ("handmade", "wide", "37.81", "0.5 % (≤ 1.1 %)", "1.20x", "–", "–", "–"),
        ("handmade", "half, seed 1", "37.43", "1.5 % (≤ 2.1 %)", "–", "2.50x", "3.00x", "5.00x"),
        ("handmade", "half, seed 2", "37.62", "1.0 % (≤ 1.6 %)", "–", "2.00x †", "–", "–"),
    )
    assert table.notes == ("† not valid: the full table says why",)
    assert beam.title == "multi30k-ende test.2016, beam5, 1 thread, host (x86): Xeon 8370C"
    assert beam.lines == (("handmade", "half", "37.54", "1.2 % (≤ 1.8 %)", "1.50x"),)


def test_test_sets_threads_and_machines_stand_apart() -> None:
    rows = [row(), row(threads=2), row(environment=PHONE), row(split="test.2017")]
    assert [(table.title, len(table.lines)) for table in summary_tables(rows)] == [
        ("multi30k-ende test.2016, greedy, 1 thread, host (x86): Xeon 8370C", 1),
        ("multi30k-ende test.2016, greedy, 2 threads, host (x86): Xeon 8370C", 1),
        ("multi30k-ende test.2016, greedy, 1 thread, phone: Pixel 8, Cortex-X3", 1),
        ("multi30k-ende test.2017, greedy, 1 thread, host (x86): Xeon 8370C", 1),
    ]
