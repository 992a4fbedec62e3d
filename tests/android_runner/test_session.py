"""Sessions on this machine and on real adbds: what is measured, what is resumed, what is refused."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.android_runner import test_journal
from tests.android_runner.contestants import BENCH, QUICK, Given, open_session, rows_of
from tests.android_runner.phones import Desk, board, desk, starts_of, until
from tests.artifacts import error_of
from tests.command import tprune
from tprune import entries
from tprune.android_runner import cold_starts, execution, journal, links, measurement
from tprune.android_runner import device as devices
from tprune.android_runner.build import Runner
from tprune.android_runner.device import Gate
from tprune.android_runner.measurement import measure
from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.shell import SECONDS
from tprune.android_runner.transport import Device, Look
from tprune.benchmarks import quality, record
from tprune.benchmarks.result_table import rows_to_markdown
from tprune.export.runtime import open_bundle
from tprune.json_file import read_json, write_json
from tprune.model import checkpoint
from tprune.model.search import Search


@pytest.fixture(scope="module")
def phones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("home")) as made:
        yield made


def test_a_session_on_this_machine(runners: Callable[[str], Runner], given: Given, tmp_path: Path) -> None:
    runners("onnxruntime")
    settings = QUICK.model_copy(update={"sustained_minutes": 0.005})
    dense, small = rows_of(given, open_session(tmp_path, settings=settings))
    for row in (dense, small):
        said = row.model_dump()
        assert (row.environment.kind, said["device"], said["pin"]) == ("host-x86", "local", "all")
        assert row.latency_ms is not None and len(row.latency_ms.samples) == 3 * 10
        assert said["latency_ms"]["p99"] == pytest.approx(np.percentile(row.latency_ms.samples, 99), rel=1e-3)
        assert len(said["load_ms"]["samples"]) == len(said["gates"]) == 3
        assert said["first_sentence_ms"]["p50"] > said["load_ms"]["p50"] > 0
        assert 0 < said["ms_per_token"] < row.latency_ms.p50
        assert said["peak_memory_bytes"] > 1e6
        assert said["sustained_gate"]["waited_seconds"] == 0
        assert len(said["sustained_ms"]) == 1 and said["sustained_ms"][0] > 0
        assert "30 samples, at least 50 wanted" in row.valid.reasons
        engine = open_bundle(given.bundles[row.model].path, 1)
        search = Search.of(checkpoint.load(given.bundles[row.model].path.with_name(row.model)))
        here = quality.translate_tests(engine, given.corpus, search, "de")
        assert said["hypotheses_sha256"] == here.digest
    assert (dense.baseline, small.baseline, small.speedup is not None) == (None, "dense", True)


def test_a_session_goes_on_where_it_was(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    first = rows_of(given, open_session(tmp_path))
    (tmp_path / "done" / "onnxruntime-fp32-small-2.jsonl").unlink()
    damaged = tmp_path / "done" / "onnxruntime-fp32-dense-test.jsonl"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    real, ran = execution.execute_steadily, []

    def counted(*arguments: Any) -> bytes:
        ran.append(arguments[5])
        return real(*arguments)

    monkeypatch.setattr(execution, "execute_steadily", counted)
    again = rows_of(given, open_session(tmp_path))
    assert ran == ["onnxruntime-fp32-dense-test", "onnxruntime-fp32-small-2"]
    samples = [row.latency_ms.samples for row in (*first, *again) if row.latency_ms]
    assert samples[0] == samples[2]
    assert (samples[1][:20], samples[1][20:] == samples[3][20:]) == (samples[3][:20], False)


def test_a_phone_that_is_unplugged_in_mid_run_loses_nothing(
    runners: Callable[[str], Runner], given: Given, phones: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    settings = QUICK.model_copy(update={"seconds": 1.0, "cold_starts": 1, "patience_seconds": 2 * SECONDS})
    device = Device(phones.link(1, tmp_path / "phone"))
    started = starts_of(device, monkeypatch)

    def pull_the_cable() -> None:
        until(lambda: any("dense-0-" in folder for folder in started), "the run that is timed", 4 * SECONDS)
        phones.phones[1].unplug()
        try:
            until(lambda: device._shell.losses > 0, "the loss", 2 * SECONDS)
        finally:
            phones.phones[1].plug()
            phones.connect(phones.serials[1])

    cable = threading.Thread(target=pull_the_cable, daemon=True)
    cable.start()
    rows = rows_of(given, open_session(tmp_path, device, settings))
    cable.join()
    assert [row.model for row in rows] == ["dense", "small"]
    passes = [folder.rpartition("-")[0] for folder in started]
    assert device._shell.losses > 0 and len(passes) == len(
        {*passes}
    )  # what ran on meanwhile was read, not started again
    assert all(row.latency_ms is not None and sum(row.latency_ms.samples) > 10 for row in rows)


@pytest.mark.slow
def test_a_session_over_ssh(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    settings = QUICK.model_copy(update={"cold_starts": 1, "seconds": 1.0})
    (tmp_path / "home").mkdir()
    with board(tmp_path / "home") as ssh:
        device = Device(ssh)
        started, looks = starts_of(device, monkeypatch), list[str]()
        look = device.look

        def counted(folder: str, grows: Sequence[str] = ()) -> Look:
            looks.append(folder)
            return look(folder, grows)

        monkeypatch.setattr(device, "look", counted)
        rows = rows_of(given, open_session(tmp_path, device, settings))
    assert [(row.model, row.model_dump()["device"]) for row in rows] == [("dense", "ssh:board"), ("small", "ssh:board")]
    assert len(started) == 2 * 2
    timed = [folder for folder in started if "-0-" in folder]
    assert len(timed) == 2 and all(looks.count(folder) <= 2 for folder in timed)  # each is a handshake beside the run
    for row in rows:
        here = quality.translate_tests(
            open_bundle(given.bundles[row.model].path, 1), given.corpus,
            Search.of(checkpoint.load(given.bundles[row.model].path.with_name(row.model))), "de",
        )  # fmt: skip
        assert row.model_dump()["hypotheses_sha256"] == here.digest
        assert row.latency_ms is not None and len(row.latency_ms.samples) % QUICK.sentences == 0
    assert not (tmp_path / "device").exists()  # it was there, and not here


def test_a_device_that_vanishes_while_it_cools_is_asked_again(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    real, asked = devices.cool_down, list[str]()

    def vanishing(device: Device, limit_c: float, seconds: float) -> devices.Gate:
        asked.append(device.name)
        if len(asked) in (2, 3):
            raise DeviceLostError("the device's answer broke off", where=device.name, fix="connect it again")
        return real(device, limit_c, seconds)

    monkeypatch.setattr(devices, "cool_down", vanishing)
    assert len(rows_of(given, open_session(tmp_path))) == 2
    assert len(asked) == 2 + 2 + 2 * QUICK.cold_starts  # the test set and the cold starts of two models, and two more


def test_a_pass_carries_the_gate_of_the_start_that_counts(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    opened, gates = open_session(tmp_path), iter([Gate(31.0, 0.0, True), Gate(44.0, 300.0, False)])
    start = opened.device.start

    def lost_at_first(folder: str, command: list[str]) -> None:
        monkeypatch.setattr(opened.device, "start", start)
        raise DeviceLostError("the device is not there")

    monkeypatch.setattr(devices, "cool_down", lambda *_: next(gates))
    monkeypatch.setattr(opened.device, "start", lost_at_first)
    assert opened.run(given.bundles["small"], "one", [[5, 6]], runs=1).gate == Gate(44.0, 300.0, False)
    assert opened.run(given.bundles["small"], "one", [[5, 6]], runs=1).gate.temperature_c == 44  # as it was kept


def test_a_phone_that_stays_away_is_told_and_the_session_kept(
    runners: Callable[[str], Runner], given: Given, phones: Desk, tmp_path: Path
) -> None:
    runners("onnxruntime")
    settings = QUICK.model_copy(update={"patience_seconds": 0.5})
    opened = open_session(tmp_path, Device(phones.link(1, tmp_path / "phone")), settings)
    phones.phones[1].unplug()
    try:
        assert "the device" in error_of(rows_of, given, opened)
    finally:
        phones.phones[1].plug()
        phones.connect(phones.serials[1])
    assert len(rows_of(given, open_session(tmp_path, Device(phones.link(1, tmp_path / "phone"))))) == 2


def test_two_devices_side_by_side(
    runners: Callable[[str], Runner], given: Given, phones: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    ways = {"adb:one": phones.link(0, tmp_path / "one"), "adb:two": phones.link(1, tmp_path / "two")}
    monkeypatch.setattr(links, "open_link", ways.__getitem__)
    quick = [f"device.{key}={value}" for key, value in QUICK.model_dump().items() if key != "pin"]
    overrides = [word for one in (*quick, "bench.bootstrap=20") for word in ("--set", one)]
    status = tprune(
        monkeypatch, "bench", given.bundles["dense"].path, given.bundles["small"].path, "--corpus", given.text.path,
        "--out", tmp_path / "results", "--device", "adb:one", "--device", "adb:two", *overrides,
    )  # fmt: skip
    assert status == 0
    rows = record.read_all(tmp_path / "results")
    named = [(row.model_dump()["device"], row.model) for row in rows]
    serials = [way.name for way in ways.values()]
    assert named == [(serial, model) for serial in serials for model in ("dense", "small-bundle")]


def test_another_device_of_the_same_name_does_not_go_on(tmp_path: Path) -> None:
    open_session(tmp_path).environment()
    open_session(tmp_path)  # the same one does
    there = tmp_path / "done" / "environment.json"
    cpu = read_json(there)["cpu"]
    write_json(there, {**read_json(there), "kind": "sbc", "cpu": "BCM2712"})
    assert error_of(open_session, tmp_path) == (
        f"{tmp_path / 'done'}: begun on another device · kind sbc, now host-x86; cpu BCM2712, now {cpu} · "
        "connect that one, or delete the folder to begin again"
    )


def test_runs_that_differ_are_not_compared() -> None:
    def said(**changes: Any) -> journal.Journal:
        start = test_journal.START | changes
        return journal.parse(test_journal.written(start, test_journal.LOAD, test_journal.sentence(0, 110, 100)))

    measurement.refuse_unequal({"dense": [said(), said()], "small": [said()]}, "adb:one")
    for changes in ({"cpus": [4, 5]}, {"threads": 2}, {"mode": "steps"}):
        error = error_of(measurement.refuse_unequal, {"dense": [said()], "small": [said(), said(**changes)]}, "adb:one")
        assert error.startswith(
            "adb:one: these runs cannot be compared · dense, small: onnxruntime 1.31.1 whole, threa"
        )
        assert "; small: onnxruntime 1.31.1 " in error


def test_what_has_no_baseline_is_refused(given: Given, tmp_path: Path) -> None:
    entries = {
        ("onnxruntime", "fp32", "dense"): given.bundles["dense"],
        ("onnxruntime", "int8", "small"): given.bundles["small"],
    }
    error = error_of(lambda: list(measure("x", "y", open_session(tmp_path), entries, given.corpus, "de", BENCH)))
    assert error.startswith("onnxruntime int8: nothing to compare with · wanted a dense model of the same engine and")


def test_two_bundles_of_one_name_are_refused(given: Given) -> None:
    dense, small = given.bundles["dense"], given.bundles["small"]
    assert [*entries.entries_of([("dense", dense), ("small", small)])] == [*given.entries]
    error = error_of(entries.entries_of, [("dense", dense), ("dense", small)])
    assert error == (
        f"{small.path}: two models of one name · got onnxruntime fp32 dense, as {dense.path} · "
        "rename one of the directories: results are told apart by it"
    )


def test_emulation_is_never_timed(runners: Callable[[str], Runner], given: Given, tmp_path: Path) -> None:
    runners("onnxruntime")
    opened = open_session(tmp_path)
    opened.facts = replace(opened.facts, kind="emulated-arm64")
    rows = rows_of(given, opened)
    assert {(row.latency_ms, row.model_dump()["peak_memory_bytes"]) for row in rows} == {(None, None)}
    assert rows[0].valid.reasons == ("emulated: not timed",)
    assert rows[0].environment.kind == "emulated-arm64"


def test_a_phones_row_and_a_hosts_row_are_not_mistaken_for_each_other(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path
) -> None:
    runners("onnxruntime")
    host = rows_of(given, open_session(tmp_path))[0]
    phone = host.model_copy(update={"environment": record.Environment(kind="phone", cpu="Tensor", device="Pixel 6")})
    titles = [line for line in rows_to_markdown([host, phone]).splitlines() if line.startswith("**")]
    assert len(titles) == 2
    assert "phone: Pixel 6, Tensor" in titles[1] and "phone" not in titles[0]


def test_minutes_and_starts() -> None:
    lines = [test_journal.sentence(0, 20_000_000_000, 1), test_journal.sentence(1, 30_000_000_000, 1)] * 3
    found = journal.parse(test_journal.written(test_journal.START, test_journal.LOAD, *lines))
    # ends at 20 50 70 100 120 150 s
    assert cold_starts.minutes(found) == [25_000.0, 25_000.0, 25_000.0]
    fields = cold_starts.fields([found])
    assert fields["load_ms"] == {"p50": 5e-6, "samples": [5e-6]}
    assert fields["first_sentence_ms"]["p50"] == pytest.approx(20_000)
    assert "first_token_ms" not in fields
    assert fields["ms_per_token"] == pytest.approx(25_000 / 3)
