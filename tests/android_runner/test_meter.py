"""Latency tables of devices: this machine and a real adbd, with real runners, engines and models."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.android_runner.phones import Desk, desk, starts_of
from tests.artifacts import error_of
from tests.command import tprune
from tprune import artifact
from tprune.android_runner import device as devices
from tprune.android_runner import links, toolchain
from tprune.android_runner.build import Runner
from tprune.android_runner.device import Gate
from tprune.android_runner.links import Local, Said
from tprune.android_runner.meter import DeviceMeter
from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.session import Session
from tprune.android_runner.transport import Device, State
from tprune.benchmarks import filling, probes, standings, table
from tprune.benchmarks.probes import Grid, Task
from tprune.benchmarks.record import Verdict
from tprune.delivery_config import DeviceBench, Table
from tprune.errors import MachineError
from tprune.json_file import read_json, write_json
from tprune.model import checkpoint
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration

SOURCE, TARGET = 5, 6
LIKE = dense_config(d_model=16, heads=1, ffn=16, encoder_layers=1, decoder_layers=2, vocab_size=120)
WIDE = dense_config(d_model=16, heads=1, ffn=8192, encoder_layers=1, decoder_layers=1, vocab_size=120)
SETTINGS = Table(rounds=3, seconds=0)
SMALL = {"table.points": 2, "table.least_width": 16, "table.copies": 1, "table.rounds": 2, "table.seconds": 0}
GROUPS = ("output", *probes.ATTENTIONS, *probes.FFNS, probes.WHOLE)


@pytest.fixture(scope="module")
def made_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and bundles that one test's meter made need not be made by the next one's."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def phones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("home")) as made:
        yield made


def two_models() -> tuple[Task, ...]:
    """The model without layers, one with a whole layer, and one with two wide networks."""
    grid = Grid((16,), (1,), (16,), (8192,), (15, 120))
    groups = {group.name: group.tasks for group in probes.groups(WIDE, grid, TARGET, copies=2)}
    return *groups["output 16"][:2], groups["decoder.ffn 16"][1]


def meter_of(
    folder: Path, device: Device, made_before: Path, settings: Table = SETTINGS, **changes: Any
) -> DeviceMeter:
    done = folder / "done"
    if not done.exists():
        done.mkdir()
        for kind in ("models", "bundles"):
            (made_before / settings.engine / kind).mkdir(parents=True, exist_ok=True)
            (done / kind).symlink_to(made_before / settings.engine / kind)
    session = Session(device, DeviceBench(patience_seconds=20, **changes), done, lambda _: None)
    return DeviceMeter(session, done, settings, SOURCE)


def left_on(folder: Path) -> list[str]:
    """What is on a device besides the runner."""
    return [str(path.relative_to(folder)) for kind in ("graphs", "runs") for path in (folder / kind).glob("*")]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "executorch"])
def test_models_take_turns_on_a_device(
    runners: Callable[[str], Runner], made_before: Path, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners(engine)
    settings = SETTINGS.model_copy(update={"engine": engine, "seconds": 0.3})
    device = Device(Local(str(tmp_path / "device")))
    meter = meter_of(tmp_path, device, made_before, settings, pin="0")
    told, quiet = list[str](), list[float]()
    wait = device.wait

    def waited(folder: str, longest: float, least: float, grows: Sequence[str]) -> State:
        quiet.append(least)
        return wait(folder, longest, least, grows)

    monkeypatch.setattr(device, "wait", waited)
    tasks = two_models()
    times = meter(tasks, told.append)
    assert quiet[0] == 0 and all(0.8 * 0.3 / 3 < least < 60 for least in quiet[1:])  # a round's, known from the last
    assert list(times) == ["base", "output vocabulary=15", "decoder.ffn width=8192"]
    assert {len(rounds) for rounds in times.values()} == {3}
    base, layer, wide = (float(np.median(rounds)) for rounds in times.values())
    assert 0 < base < min(layer, wide)
    assert [line for line in told if line.startswith("round")] == [f"round {n}/3 of 3 models" for n in (1, 2, 3)]
    assert left_on(tmp_path / "device") == []
    environment, valid = meter.machine()
    said = environment.model_dump()
    assert (environment.kind, said["name"], said["pin"], said["cpus"]) == ("host-x86", "local", "0", [0])
    assert "clusters" in said and "boot_id" not in said
    assert valid.ok  # a host is not refused for want of a thermometer


@pytest.mark.slow
def test_a_killed_table_of_a_device_goes_on_by_the_command_line(
    runners: Callable[[str], Runner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    with artifact.create(tmp_path / "dense", "model", config={}) as partial:
        checkpoint.save(TPruneForConditionalGeneration(LIKE), partial)
    overrides = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    words = ["table", tmp_path / "table", "--like", tmp_path / "dense", "--device", "local", *overrides]
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": cache}
    where, scratch = tmp_path / ".cache" / "tprune" / "device", tmp_path / "table.partial" / "scratch"
    first = [sys.executable, "-m", "tprune.cli", *map(str, words)]
    with subprocess.Popen(first, env=home, start_new_session=True) as process:
        limit = time.monotonic() + 120
        while not (scratch / "times encoder.self_attn 16.json").exists() or not left_on(where):
            assert time.monotonic() < limit and process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    before = {path.name: read_json(path) for path in scratch.glob("times *.json")}
    assert len(before) == 2 and left_on(where)

    monkeypatch.setattr(links, "open_link", {"local": Local(str(where))}.__getitem__)
    assert tprune(monkeypatch, *words) == 0
    assert left_on(where) == []
    made = table.read(artifact.read(tmp_path / "table", "latency-table").path)
    raw = {(one["group"], one["model"]): list(one["round_ms"]) for one in made.raw}
    assert {group for group, _ in raw} == {f"{part} 16" for part in GROUPS}
    for name, times in before.items():
        for model, rounds in times.items():
            assert raw[name.removeprefix("times ").removesuffix(".json"), model] == rounds
    assert (made.environment.kind, made.environment.model_dump()["pin"]) == ("host-x86", "all")
    assert artifact.read(tmp_path / "table").manifest["config"]["device"] == "local"

    how = {"predicted_ms": 2.0, "dense_ms": 3.0, "predicted_speedup": 1.5}
    assert table.forecast(made, how) == (
        "predicted 2.00 ms instead of 3.00, 1.50x, for onnxruntime fp32, threads: 1, "
        f"{standings.machine(made.environment)}, local, pinned to all"
    )
    warm = made.model_copy(update={"valid": Verdict(ok=False, reasons=("it was warm",))})
    assert table.forecast(warm, how).endswith(", local, pinned to all, it was warm")


def test_a_phone_that_is_unplugged_comes_back_and_the_rounds_go_on(
    runners: Callable[[str], Runner],
    phones: Desk,
    made_before: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runners("onnxruntime")
    device = Device(phones.link(1, tmp_path / "phone"))
    started = starts_of(device, monkeypatch)
    cables: list[threading.Thread] = []

    def plug_in() -> None:
        time.sleep(0.3)
        phones.phones[1].plug()
        phones.connect(phones.serials[1])

    def pull_the_cable(line: str) -> None:
        if line.startswith("round 3/3") and not cables:
            phones.phones[1].unplug()
            cables.append(threading.Thread(target=plug_in))
            cables[0].start()

    times = meter_of(tmp_path, device, made_before)(two_models(), pull_the_cable)
    cables[0].join()
    assert {len(rounds) for rounds in times.values()} == {3}
    assert started == ["runs/round"] * 3  # what was done before was not done again
    assert left_on(tmp_path / "phone") == []


class Lost(Local):
    """A device that vanishes for good when it has started a program."""

    def shell(self, line: str, seconds: float) -> Said:
        gone = Path(self.folder) / "runs" / "round" / "pid"
        if gone.exists():
            raise DeviceLostError("the device is not there", where=self.name, fix="connect it")
        return super().shell(line, seconds)


def test_a_device_that_stays_away_is_lost_and_another_does_not_take_its_place(
    runners: Callable[[str], Runner], made_before: Path, tmp_path: Path
) -> None:
    runners("onnxruntime")
    meter = meter_of(tmp_path, Device(Lost(str(tmp_path / "device"))), made_before)
    meter._session.settings = meter._session.settings.model_copy(update={"patience_seconds": 0.1})
    assert error_of(meter, two_models(), lambda _: None) == "local: the device is not there · connect it"
    assert [name for name in left_on(tmp_path / "device") if name.startswith("graphs")]  # where it goes on later
    there = tmp_path / "done" / "environment.json"
    write_json(there, {**read_json(there), "cpu": "Tensor G9", "name": "adb:one"})
    device = Device(Local(str(tmp_path / "device")))
    cpu = devices.probe(device).environment().cpu
    assert error_of(meter_of, tmp_path, device, made_before) == (
        f"{tmp_path / 'done'}: begun on another device · name adb:one, now local; cpu Tensor G9, "
        f"now {cpu} · connect that one, or delete the folder to begin again"
    )


def test_what_goes_wrong_leaves_nothing_on_the_device(
    runners: Callable[[str], Runner], made_before: Path, tmp_path: Path
) -> None:
    good = runners("onnxruntime")
    bad = tmp_path / "runner"
    bad.mkdir()
    (bad / "ort_runner").write_text(
        "#!/bin/sh\ntest -d ../turn-1 && case $PWD in *turn-1) echo no room >&2; exit 1; esac\n"
    )
    (bad / "ort_runner").chmod(0o755)
    device = Device(Local(str(tmp_path / "device")))
    meter = meter_of(tmp_path, device, made_before)
    meter._runner = replace(good, folder=bad)
    # the first model's journal is missing, the second's runner said why it stopped
    assert error_of(meter, two_models(), lambda _: None) == (
        "local runs/turn-0: the runner failed · got no room · correct what it says"
    )
    assert left_on(tmp_path / "device") == []


def test_an_interrupted_round_is_ended_on_the_device(
    runners: Callable[[str], Runner], made_before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, asleep, device = runners("onnxruntime"), tmp_path / "runner", Device(Local(str(tmp_path / "device")))
    asleep.mkdir()
    (asleep / "ort_runner").write_text("#!/bin/sh\nsleep 987 & wait\n")
    (asleep / "ort_runner").chmod(0o755)
    meter = meter_of(tmp_path, device, made_before)
    meter._runner = replace(built, folder=asleep)

    def ctrl_c(seconds: float) -> None:
        assert device.poll("runs/round") == "running"
        raise KeyboardInterrupt

    monkeypatch.setattr(device, "pause", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        meter(two_models()[:1], lambda _: None)
    assert device.poll("runs/round") == "gone"


def test_an_emulator_has_no_table_and_a_warm_phone_is_told(
    runners: Callable[[str], Runner], made_before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    meter = meter_of(tmp_path, Device(Local(str(tmp_path / "device"))), made_before)
    meter._session.facts = replace(meter._session.facts, kind="emulated-arm64")
    assert error_of(DeviceMeter, meter._session, tmp_path / "done", SETTINGS, SOURCE) == (
        "local: no latency table of an emulator · got emulated-arm64 · wanted a machine whose time says something · "
        "name a phone, a board or this machine"
    )
    meter._session.facts = replace(meter._session.facts, kind="phone")
    gates = iter([Gate(30.0, 5.0, True), Gate(41.26, 300.0, False), Gate(39.0, 300.0, False)])
    monkeypatch.setattr(devices, "cool_down", lambda *_: next(gates))
    meter(two_models()[:2], lambda _: None)
    environment, valid = meter.machine()
    assert valid.reasons == ("the device stayed at up to 41.3 °C before 2 of 3 rounds",)
    said = environment.model_dump()
    assert (said["warmest_c"], said["waited_seconds"]) == (41.26, 605.0)
    gates = iter([Gate(None, 0.0, None)] * 3)
    meter(two_models()[:2], lambda _: None)
    assert meter.machine()[1].reasons[0] == "no thermometer could be read before 3 of 6 rounds"


def test_no_runner_is_told_before_anything_is_exported(
    made_before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise MachineError("a tool is missing", where=name, fix=f"install {name}")

    monkeypatch.setattr(toolchain, "tool", missing)
    device = Device(Local(str(tmp_path / "device")))
    assert error_of(meter_of, tmp_path, device, made_before) == "c++: a tool is missing · install c++"


def test_the_links_are_those_of_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with artifact.create(tmp_path / "dense", "model", config={}) as partial:
        checkpoint.save(TPruneForConditionalGeneration(LIKE), partial)
    words = ["table", tmp_path / "table", "--like", tmp_path / "dense", "--device", "usb:1"]
    assert tprune(monkeypatch, *words) == 1
    assert list(tmp_path.glob("table*")) == []
    assert filling.inputs(LIKE, 5, 6, Table()) == filling.inputs(LIKE, 5, 6, Table(device=None), None)
    assert "device" not in filling.inputs(LIKE, 5, 6, Table())  # tables from before there were devices stay current
