"""Rows of devices in tables: nothing that was measured is missing, and no cluster is taken for another."""

from tests.benchmarks.rows import PHONE, row
from tprune.benchmarks.result_table import device_tables, engine_tables, measured_table, result_tables

NATIVE = {"environment": PHONE, "ms_per_token": 1.5, "device": "adb:R58M", "pin": "big"}


def test_two_clusters_of_a_phone_are_two_tables() -> None:
    rows = [row(**NATIVE), row(**{**NATIVE, "pin": "little"}), row(**{**NATIVE, "device": "adb:OTHER"})]
    place = "multi30k-ende test.2016, onnxruntime 1.31.1, phone: Pixel 8, Cortex-X3"
    assert [table.title for table in engine_tables([*rows, row(environment=PHONE)])] == [
        f"{place}, runner on adb:R58M, pinned to big",
        f"{place}, runner on adb:R58M, pinned to little",
        f"{place}, runner on adb:OTHER, pinned to big",
        place,
    ]
    assert len({line[3] for line in measured_table(rows).lines}) == 3


def test_a_long_run_is_in_the_devices_table() -> None:
    long = [row(**NATIVE, sustained_ms=[20.04, 25.0, 31.26]), row(**{**NATIVE, "model": "half"})]
    (table,) = device_tables(long)
    cells = [line[table.heads.index("First → last minute")] for line in table.lines]
    assert cells == ["20.0 → 31.3 ms", "–"]
    assert "First → last minute" not in device_tables([row(**NATIVE)])[0].heads + result_tables(long)[0].heads
    emulated = row(**{**NATIVE, "environment": {"kind": "emulated-arm64", "cpu": "qemu"}}, sustained_ms=[20.0])
    assert device_tables([emulated]) == []
