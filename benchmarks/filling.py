"""Filling a latency table: random models are exported, timed in turn, and their times turned into costs.

Models and fit are `tprune.benchmarks.probes`'; here is this machine's clock, that of a device is
`tprune.android_runner.meter`. Every group of models that has been timed is written down, so that a killed filling goes
on.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import calibration, latency, probes, record
from tprune.benchmarks.probes import Grid, Task
from tprune.benchmarks.record import Environment, Verdict
from tprune.benchmarks.table import FILE, KIND, LatencyTable, predict, write
from tprune.delivery_config import Export, Table
from tprune.errors import ModelError
from tprune.export import description, runtime
from tprune.export.bundle import export
from tprune.json_file import read_json, write_json
from tprune.model import checkpoint
from tprune.model.decode import one_by_one
from tprune.model.search import Search
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text.corpus import open_corpus

WARMUP, SENTENCES = 2, latency.TURN
FIRST_WORD = 4  # of the random sentences: special tokens come before
DIGITS = 5  # of a time in ms
EQUAL_WIDTHS = ("executorch",)  # see `tprune.export.buffered.equal_widths`

Tell = Callable[[str], None]


class Meter(Protocol):
    """Times models on some machine."""

    def __call__(self, tasks: Sequence[Task], tell: Tell) -> dict[str, list[float]]:
        """Median ms of a sentence in each round, by the task's name; all tasks take turns."""
        ...

    def machine(self) -> tuple[Environment, Verdict]:
        """Whose times these are, and whether all that were taken may be quoted."""
        ...


@dataclass(frozen=True)
class LocalMeter:
    """Times models on this machine, each as the bundle that `tprune export` makes of it.

    Attributes:
        folder: Where models and bundles are kept; what is there already is not made again.
        settings: Engine, precision, threads, rounds and seconds.
        source_tokens: Length of the sentences.
    """

    folder: Path
    settings: Table
    source_tokens: int

    def __call__(self, tasks: Sequence[Task], tell: Tell) -> dict[str, list[float]]:
        """See `Meter`.

        Raises:
            ModelError: A model ends a translation early.
        """
        opened = {}
        for task in tasks:
            tell(f"export {task.name}")
            opened[task.name] = self._open(task)
        tell(f"time {len(tasks)} models")
        samples = latency.time_in_turn(
            opened,
            sentences(tasks, self.source_tokens),
            rounds=self.settings.rounds,
            seconds=self.settings.seconds,
            warmup=WARMUP,
        )
        for task in tasks:
            require_length(task, samples[task.name].outputs)
        return {name: np.median(sample.milliseconds, axis=1).round(DIGITS).tolist() for name, sample in samples.items()}

    def machine(self) -> tuple[Environment, Verdict]:
        """See `Meter`."""
        return record.environment(), Verdict(ok=True)

    def _open(self, task: Task) -> Callable[[Sequence[int]], list[int]]:
        bundle = bundle_of(task, self.folder, self.settings)
        search = replace(Search(**description.read(bundle).search), max_new_tokens=task.target_tokens)
        return one_by_one(runtime.open_bundle(bundle, self.settings.threads), search)


def sentences(tasks: Sequence[Task], source_tokens: int) -> list[list[int]]:
    """Random sentences of words that all models of a group know."""
    smallest = min(task.config.vocab_size for task in tasks)
    drawn = np.random.default_rng(0).integers(FIRST_WORD, smallest, (SENTENCES, source_tokens))
    return [[int(word) for word in words] for words in drawn]


def bundle_of(task: Task, folder: Path, settings: Table) -> Path:
    """The bundle that `tprune export` makes of a task's model; one that is in the folder already is not made again."""
    form = [settings.engine, runtime.version(settings.engine), settings.precision]
    name = _digest(task.config.to_dict())
    model, bundle = folder / "models" / name, folder / "bundles" / _digest([name, *form])
    for path in (model, bundle):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not model.exists():
        with artifact.create(model, "model", config={"random": name}) as partial:
            checkpoint.save(random_model(deepcopy(task.config)), partial)  # saving writes into the configuration
    if not bundle.exists():
        export(model, bundle, settings.engine, Export(parity_sentences=1), precision=settings.precision)
    return bundle


def _digest(described: Any) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]


def require_length(task: Task, translations: Sequence[Sequence[int]]) -> None:
    """Refuse the times of translations that are not as long as was wanted.

    Raises:
        ModelError: The model ended one early.
    """
    lengths = {len(ids) for ids in translations}
    if lengths != {task.target_tokens}:
        raise ModelError(
            "a random model ended its translation early",
            where=task.name,
            got=f"{min(lengths)} tokens",
            wanted=task.target_tokens,
            fix="report this: its times would be too short",
        )


def random_model(config: TPruneConfig) -> TPruneForConditionalGeneration:
    """A model that never ends a translation: eos' logit is 0, below the best of all others."""
    torch.manual_seed(0)
    model = TPruneForConditionalGeneration(config).eval()
    table = model.target_embed or model.embed if model.lm_head is None else model.lm_head
    with torch.no_grad():
        table.weight[config.eos_token_id] = 0
    return model  # type: ignore[no-any-return]


def fill(
    out: Path,
    like: TPruneConfig,
    source_tokens: int,
    target_tokens: int,
    settings: Table,
    pin: str | None = None,
    open_meter: Callable[[Path], Meter] | None = None,
) -> Callable[[bool], Artifact]:
    """What makes the table's artifact at `out`, given whether to replace an old one; arguments as for `inputs`.

    Args:
        out: The artifact's directory.
        like: The largest model that the table has to predict.
        source_tokens: Length of the timed sentences.
        target_tokens: Length of their translations, eos included.
        settings: Engine, precision, threads, grid and rounds.
        pin: Processors that the models stay on; None: nobody says.
        open_meter: Gives what times the models, for a folder that survives a kill; None: this machine does.
    """

    def make(force: bool) -> Artifact:
        from tprune.progress import narrate

        config = inputs(like, source_tokens, target_tokens, settings, pin)
        with artifact.create(out, KIND, config=config, force=force) as partial, narrate("latency table") as tell:
            scratch = partial / artifact.SCRATCH
            meter = open_meter(scratch) if open_meter else LocalMeter(scratch, settings, source_tokens)
            grid = _grid(like, settings)
            times = _times(scratch, probes.groups(like, grid, target_tokens, settings.copies), meter, tell)
            made = _table(grid, times, source_tokens, target_tokens, settings, *meter.machine())
            write(_calibrated(made, like, grid, times), partial / FILE)
        return artifact.read(out, KIND)

    return make


def inputs(
    like: TPruneConfig, source_tokens: int, target_tokens: int, settings: Table, pin: str | None = None
) -> dict[str, Any]:
    """What a table depends on: grid, depths and conventions of a model, but no weights.

    Raises:
        MachineError: The engine is not installed.
    """
    return {
        **settings.model_dump(mode="json", exclude_none=True),
        **({} if pin is None else {"pin": pin}),
        "engine_version": runtime.version(settings.engine),
        "method": probes.METHOD,
        "source_tokens": source_tokens,
        "target_tokens": target_tokens,
        "like": {name: getattr(like, name) for name in CONVENTIONS},
        "grid": _grid(like, settings).__dict__,
        "depths": probes.depths(like),
    }


def mean_lengths(text: Artifact) -> tuple[int, int]:
    """Mean source and target tokens of a corpus' validation sentences, eos included, rounded."""
    opened = open_corpus(text)
    source, target = opened.split(opened.valid).lengths.mean(axis=0)
    return round(float(source)), max(2, round(float(target)))


def _grid(like: TPruneConfig, settings: Table) -> Grid:
    return probes.grid_for(like, settings.d_models, settings.points, settings.least_width)


def _times(folder: Path, groups: Sequence[probes.Group], meter: Meter, tell: Tell) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for number, group in enumerate(groups, start=1):
        saved = folder / f"times {group.name}.json"
        if not saved.exists():
            where = f"{number}/{len(groups)} {group.name}"
            write_json(saved, meter(group.tasks, _below(where, tell)))
        found[group.name] = read_json(saved)
    return found


def _below(where: str, tell: Tell) -> Tell:
    return lambda line: tell(f"{where}: {line}")


def _table(
    grid: Grid,
    times: Mapping[str, probes.Times],
    source_tokens: int,
    target_tokens: int,
    settings: Table,
    environment: Environment,
    valid: Verdict,
) -> LatencyTable:
    return LatencyTable(
        engine=settings.engine,
        engine_version=runtime.version(settings.engine),
        precision=settings.precision,
        threads=settings.threads,
        environment=environment,
        valid=valid,
        source_tokens=source_tokens,
        target_tokens=target_tokens,
        equal_widths=settings.engine in EQUAL_WIDTHS,
        surfaces=probes.surfaces(grid, times, settings.copies),
        raw=tuple(
            {"group": group, "model": name, "round_ms": list(rounds)}
            for group, tasks in times.items()
            for name, rounds in tasks.items()
        ),
    )


def _calibrated(made: LatencyTable, like: TPruneConfig, grid: Grid, times: Mapping[str, probes.Times]) -> LatencyTable:
    """The table with what whole models take for the sum of their parts."""
    measured = probes.whole_ms(grid, times)
    points = [(predict(made, config), measured[name]) for name, config in probes.whole_models(like, grid).items()]
    return made.model_copy(update={"calibration": calibration.through(points)})


CONVENTIONS = (
    "norm",
    "final_norm",
    "embedding_norm",
    "positions",
    "activation",
    "tie_output",
    "output_bias",
    "max_positions",
)
"""What else of a model decides its latency."""
