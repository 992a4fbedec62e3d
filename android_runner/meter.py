"""Times of models on a device, for a latency table.

A round is one program on the device: the runner in each model's folder, one after the other, so that all models take
turns within seconds and the link is idle meanwhile. What a group of models needed there is removed behind it.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tprune import artifact
from tprune.android_runner import device as devices
from tprune.android_runner import execution, journal, package, run_file
from tprune.android_runner.device import Gate
from tprune.android_runner.journal import Journal
from tprune.android_runner.measurement import refuse_unequal
from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.run_file import Job
from tprune.android_runner.session import Session
from tprune.artifact import Artifact
from tprune.benchmarks import filling
from tprune.benchmarks.filling import Tell
from tprune.benchmarks.probes import Task
from tprune.benchmarks.record import Environment, Verdict
from tprune.delivery_config import Table
from tprune.errors import InputError, MachineError
from tprune.export import description
from tprune.json_file import read_json, write_json

ROUND = "round"  # the folder of the program that a round is
LIKE_THE_LAST = 0.8  # of the last round's time: before, nobody looks whether this one has ended
IN_TURN = (  # $0: folders beside its own; "$@": what starts the runner
    f'for one in $0; do rm -f "../$one/{run_file.JOURNAL}"; done; '
    'for one in $0; do (cd "../$one" && exec "$@") || exit; done'
)


@dataclass(frozen=True)
class Turn:
    """A model that takes part in every round.

    Attributes:
        folder: Of its run, below package.RUNS.
        task: The model and the length of its translations.
        bundle: Of the model.
        job: How to run it.
    """

    folder: str
    task: Task
    bundle: Artifact
    job: Job


class DeviceMeter:
    """Times models on a device with the native runner, see `filling.Meter`.

    Args:
        session: The device; its number of threads is the table's.
        folder: Where models, bundles and what was found of the device are kept.
        settings: Engine, precision, rounds and seconds.
        source_tokens: Length of the sentences.

    Raises:
        InputError: An emulator, whose time says nothing, or no runner for the engine on such a device.
        MachineError: The runner cannot be built.
    """

    def __init__(self, session: Session, folder: Path, settings: Table, source_tokens: int) -> None:
        self._session, self._folder, self._settings, self._source_tokens = session, folder, settings, source_tokens
        facts = session.facts
        if facts.emulated:
            raise InputError(
                "no latency table of an emulator",
                where=facts.name,
                got=facts.kind,
                wanted="a machine whose time says something",
                fix="name a phone, a board or this machine",
            )
        assert facts.abi is not None  # the session has seen to it
        self._lasted = 0.0  # seconds that the last round of these models took
        self._runner = session.build_runner(settings.engine, facts.abi)
        session.environment()  # kept from now on: the table is of this device

    def __call__(self, tasks: Sequence[Task], tell: Tell) -> dict[str, list[float]]:
        """See `filling.Meter`.

        Raises:
            ModelError: A model ends a translation early.
            DeviceLostError: The device vanished and did not come back; what it was pushed is still there.
            MachineError: The runner fails, or the device's disk is full; what it was pushed is removed.
        """
        turns = []
        for number, task in enumerate(tasks):
            tell(f"export {task.name}")
            bundle = artifact.read(filling.bundle_of(task, self._folder, self._settings), "bundle")
            turns.append(Turn(f"turn-{number}", task, bundle, self._job(bundle)))
        rounds: list[dict[str, Journal]] = []
        gates: list[Gate] = []
        self._lasted = 0.0

        def go_on() -> None:
            tell(f"push {len(turns)} models")
            self._prepare(turns)
            while len(rounds) < self._settings.rounds:
                tell(f"round {len(rounds) + 1}/{self._settings.rounds} of {len(turns)} models")
                gate = self._cool_down()
                rounds.append(self._round(turns, len(rounds)))
                gates.append(gate)

        patience = self._session.settings.patience_seconds
        try:
            execution.steadily(self._session.device, go_on, patience)
        except DeviceLostError:
            raise
        except MachineError:
            with contextlib.suppress(DeviceLostError):
                self._remove(turns)
            raise
        execution.steadily(self._session.device, lambda: self._remove(turns), patience)
        for turn in turns:
            filling.require_length(turn.task, [one.tokens for done in rounds for one in done[turn.task.name].timed])
        refuse_unequal(
            {turn.task.name: [done[turn.task.name] for done in rounds] for turn in turns}, self._session.device.name
        )
        write_json(self._gates, [*self._gated(), *map(asdict, gates)])
        return {turn.task.name: [_median_ms(done[turn.task.name]) for done in rounds] for turn in turns}

    def machine(self) -> tuple[Environment, Verdict]:
        """See `filling.Meter`: the device as it was found when the table was begun, and how warm it was since."""
        gates = [Gate(**one) for one in self._gated()]
        temperatures = [gate.temperature_c for gate in gates if gate.temperature_c is not None]
        said = {
            "pin": self._session.settings.pin,
            "cpus": list(self._session.cpus),
            "warmest_c": max(temperatures, default=None),
            "waited_seconds": sum(gate.waited_seconds for gate in gates),
        }
        environment = Environment.model_validate({**self._session.environment().model_dump(), **said})
        refused = [gate for gate in gates if gate.reason] if self._session.facts.kind == "phone" else []
        reasons = []
        if unknown := sum(gate.passed is None for gate in refused):
            reasons.append(f"no thermometer could be read before {unknown} of {len(gates)} rounds")
        if warm := [gate.temperature_c for gate in refused if gate.temperature_c is not None]:
            reasons.append(f"the device stayed at up to {max(warm):.1f} °C before {len(warm)} of {len(gates)} rounds")
        return environment, Verdict(ok=not reasons, reasons=tuple(reasons))

    @property
    def _gates(self) -> Path:
        return self._folder / "gates.json"

    def _gated(self) -> list[dict[str, Any]]:
        return list(read_json(self._gates)) if self._gates.exists() else []

    def _job(self, bundle: Artifact) -> Job:
        sentences = filling.SENTENCES
        return Job(
            run_file.modes(description.read(bundle.path))[0],
            self._settings.threads,
            runs=sentences,
            warmup=sentences,
            seconds=self._settings.seconds / self._settings.rounds,
            cpus=self._session.cpus,
        )

    def _prepare(self, turns: Sequence[Turn]) -> None:
        """Lay everything ready, of which most is still there after the device was away."""
        device = self._session.device
        device.clear(package.RUNS)
        words = filling.sentences([turn.task for turn in turns], self._source_tokens)
        with TemporaryDirectory() as made:
            wanted: dict[str, Path] = {}
            for turn in turns:
                own = Path(made) / turn.folder
                own.mkdir()
                package.write_run(own, turn.bundle, turn.job, words, turn.task.target_tokens)
                wanted |= package.files(self._runner, turn.bundle)
                wanted |= {f"{package.RUNS}/{turn.folder}/{path.name}": path for path in own.iterdir()}
            device.push(wanted)
        device.make_folder(f"{package.RUNS}/{ROUND}")

    def _cool_down(self) -> Gate:
        settings = self._session.settings
        return devices.cool_down(self._session.device, settings.cool_celsius, settings.cool_seconds)

    def _round(self, turns: Sequence[Turn], number: int) -> dict[str, Journal]:
        """All models once, the order rotated by one each time."""
        device, shift = self._session.device, number % len(turns)
        order = " ".join(turn.folder for turn in [*turns[shift:], *turns[:shift]])
        folder = f"{package.RUNS}/{ROUND}"
        begin = time.monotonic()
        with execution.ended_when_stopped(device, folder):
            device.start(folder, ["sh", "-c", IN_TURN, order, *package.command(self._runner)])
            device.wait(
                folder,
                sum(execution.longest_seconds(turn.job) for turn in turns),
                LIKE_THE_LAST * self._lasted,
                [f"{package.RUNS}/{turn.folder}/{run_file.JOURNAL}" for turn in turns],
            )
            self._lasted = time.monotonic() - begin
            return {turn.task.name: journal.parse(execution.read(device, turn.folder, ROUND)) for turn in turns}

    def _remove(self, turns: Sequence[Turn]) -> None:
        device = self._session.device
        device.clear(package.RUNS)
        for folder in sorted({package.graphs_of(turn.bundle) for turn in turns}):
            device.remove(folder)


def _median_ms(found: Journal) -> float:
    return round(float(np.median([one.total_ns for one in found.timed])) / 1e6, filling.DIGITS)
