"""Which rows stand where: planes and fronts."""

from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.rows import EMULATED, PHONE, pruned, row
from tprune.benchmarks.standings import Point, Series, machine, planes


def test_one_series_for_each_engine_precision_threads_and_machine() -> None:
    rows = [
        row(),
        pruned(1.5, 2),
        row(precision="int8"),
        row(threads=2),
        row(engine="executorch"),
        row(environment=PHONE),
        pruned(1.5, 2, split="test.2017"),
    ]
    first, second = planes(rows)
    assert (first.dataset, first.split, second.split) == ("multi30k-ende", "test.2016", "test.2017")
    assert [series.name for series in first.series] == [
        "onnxruntime fp32, 1 thread, greedy · host (x86): Xeon 8370C",
        "onnxruntime int8, 1 thread, greedy · host (x86): Xeon 8370C",
        "onnxruntime fp32, 2 threads, greedy · host (x86): Xeon 8370C",
        "executorch fp32, 1 thread, greedy · host (x86): Xeon 8370C",
        "onnxruntime fp32, 1 thread, greedy · phone: Pixel 8, Cortex-X3",
    ]
    assert [point.row.model for point in first.series[0].points] == ["dense", "half-1.5"]


def test_emulated_and_incomplete_rows_are_on_no_plane() -> None:
    assert (
        planes(
            [
                pruned(1.5, 2, environment=EMULATED),
                row(model="half", speedup=None),
                row(bleu=None, bleu_signature=None, bleu_loss_percent=None, bleu_loss_upper_percent=None),
            ]
        )
        == []
    )


def test_a_dense_row_without_speedup_is_its_own_baseline() -> None:
    (plane,) = planes([row(speedup=None, baseline=None)])
    assert plane.series[0].points[0].speedup == 1
    assert planes([row(speedup=None, baseline=None, latency_ms=None)]) == []


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(values: list[tuple[int, int]]) -> None:
    series = Series("s", "phone", tuple(Point(speedup, bleu, row()) for speedup, bleu in values))
    front = {(point.speedup, point.bleu) for point in series.front}
    for speedup, bleu in values:
        beaten = any(other != (speedup, bleu) and other[0] >= speedup and other[1] >= bleu for other in values)
        assert ((speedup, bleu) in front) == (not beaten)


def test_devices_of_one_model_processors_and_runtimes_are_told_apart() -> None:
    places = [{"device": "adb:A", "pin": "big"}, {"device": "adb:A", "pin": "little"}, {"device": "adb:B"}, {}]
    rows = [pruned(1.0 + index, 0.5, model="half", environment=PHONE, **place) for index, place in enumerate(places)]
    assert [series.name for series in planes(rows)[0].series] == [
        f"onnxruntime fp32, 1 thread, greedy{where} · phone: Pixel 8, Cortex-X3"
        for where in (
            ", runner on adb:A, pinned to big",
            ", runner on adb:A, pinned to little",
            ", runner on adb:B",
            "",
        )
    ]


def test_a_machine_is_named_by_kind_first() -> None:
    busy = {"kind": "host-x86", "cpu": "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz"}
    assert machine(row(environment=busy).environment) == "host (x86): Intel Xeon Platinum 8370C"
    assert machine(row(environment=PHONE).environment) == "phone: Pixel 8, Cortex-X3"
    assert machine(row(environment=EMULATED).environment) == "emulated (Arm64): qemu"
