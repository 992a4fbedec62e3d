"""How far a latency table's predictions are from measured models.

Run as `python -m tprune.benchmarks.prediction TABLE OUT.json FOLDER [MODEL ...]` with a table's directory: whole models
of random shapes within the table's grid, or of the shapes of the models given, the dense one first, are exported, timed
in turn, and compared with what the table says. Weights are random, so that every translation has the table's length.
FOLDER keeps the bundles, and a killed run goes on.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tprune import artifact
from tprune.benchmarks import probes
from tprune.benchmarks import table as tables
from tprune.benchmarks.filling import CONVENTIONS, LocalMeter, Meter
from tprune.benchmarks.probes import Task
from tprune.benchmarks.table import LatencyTable
from tprune.delivery_config import Table
from tprune.entry import script
from tprune.errors import InputError
from tprune.json_file import write_json
from tprune.model import checkpoint
from tprune.model.shape import TPruneConfig, attention_shape
from tprune.progress import tell
from tprune.provenance import made_by

MODELS, DEEPEST, SEED = 30, 4, 0


def shapes(table: LatencyTable, like: TPruneConfig, count: int, seed: int = SEED) -> dict[str, TPruneConfig]:
    """The largest model of the table's grid, with three layers a stack, and `count` random ones.

    Depths from 1 to DEEPEST, and every width of every sub-layer drawn by itself; one sub-layer in six is gone.

    Args:
        table: Its axes bound the shapes.
        like: Conventions of the models.
        count: How many random ones.
        seed: Of the drawing.
    """
    chance = random.Random(seed)
    axes = table.surfaces["decoder.self_attn"].axes
    ffns, words = table.surfaces["decoder.ffn"].axes["width"], table.surfaces[tables.OUTPUT].axes["vocabulary"]

    def on_grid(least: int, most: int, grid: int = 8) -> int:
        return min(most, max(least, chance.randint(least, most) // grid * grid))

    def attention(*, needed: bool = False) -> dict[str, Any]:
        one = attention_shape(chance.randint(axes["heads"][0], axes["heads"][-1]), 8)
        widths = {kind: on_grid(axes["width"][0], axes["width"][-1]) for kind in ("qk", "v")}
        return {**one, **widths, "heads": one["heads"] if needed or chance.random() > 1 / 6 else 0}

    def ffn() -> int:
        return on_grid(ffns[0], ffns[-1]) if chance.random() > 1 / 6 else 0

    def drawn() -> TPruneConfig:
        encoder = [{"self_attn": attention(), "ffn": ffn()} for _ in range(chance.randint(1, DEEPEST))]
        decoder = [
            {"self_attn": attention(), "cross_attn": attention(needed=not index), "ffn": ffn()}
            for index in range(chance.randint(1, DEEPEST))
        ]
        return _config(like, chance.choice(axes["d_model"]), on_grid(words[0], words[-1]), encoder, decoder)

    full = attention_shape(axes["heads"][-1], axes["width"][-1])
    whole = _config(
        like,
        axes["d_model"][-1],
        words[-1],
        [{"self_attn": full, "ffn": ffns[-1]}] * 3,
        [{"self_attn": full, "cross_attn": full, "ffn": ffns[-1]}] * 3,
    )
    return {"largest": whole, **{f"random {number}": drawn() for number in range(count)}}


def compare(
    table: LatencyTable, models: dict[str, TPruneConfig], meter: Meter, report: Callable[[str], None] = tell
) -> dict[str, Any]:
    """Measure models and compare them with the table.

    Args:
        table: What predicts.
        models: By name; the first is what the others are compared with, as the dense model.
        meter: What measures, at the table's lengths.
        report: Gets a line before each part.

    Returns:
        Every model's measured and predicted ms and its speedup over the first, the errors of the times, and of the
        speedups, which no drift of the machine between the filling of the table and now disturbs.
    """
    rounds = meter([Task(name, config, table.target_tokens) for name, config in models.items()], report)
    measured = {name: float(np.median(times)) for name, times in rounds.items()}
    predicted = {name: tables.predict(table, config) for name, config in models.items()}
    first, *names = models
    speedups = {
        name: {"measured": measured[first] / measured[name], "predicted": predicted[first] / predicted[name]}
        for name in models
    }
    return {
        "engine": table.engine,
        "precision": table.precision,
        "threads": table.threads,
        "environment": table.environment.model_dump(mode="json"),
        "source_tokens": table.source_tokens,
        "target_tokens": table.target_tokens,
        "models": len(names),
        "error_percent": _errors([predicted[name] / measured[name] for name in names]),
        "speedup_error_percent": _errors([speedups[name]["predicted"] / speedups[name]["measured"] for name in names]),
        "rows": [
            {
                "model": name,
                "shapes": {stack: getattr(config, f"{stack}_shapes") for stack in ("encoder", "decoder")},
                "vocabulary": config.output_size,
                "measured_ms": measured[name],
                "predicted_ms": predicted[name],
                "speedup": speedups[name],
                "round_ms": rounds[name],
            }
            for name, config in models.items()
        ],
        "made_by": made_by(),
    }


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by their names, or by their whole paths where two have the same name."""
    names = Counter(folder.name for folder in folders)
    return {folder.name if names[folder.name] == 1 else str(folder): folder for folder in folders}


def _errors(ratios: Sequence[float]) -> dict[str, float]:
    away = 100 * np.abs(np.array(ratios) - 1)
    return {
        "median": float(np.median(away)),
        "p90": float(np.percentile(away, 90)),
        "largest": float(away.max()),
        "bias": float(100 * (np.median(ratios) - 1)),
    }


def _config(
    like: TPruneConfig, d_model: int, vocabulary: int, encoder: list[dict[str, Any]], decoder: list[dict[str, Any]]
) -> TPruneConfig:
    config = probes.with_tokens(like, vocabulary)
    config.d_model = d_model
    config.encoder_shapes, config.decoder_shapes = encoder, decoder
    return config


def _main(table: Path, out: Path, folder: Path, models: Annotated[list[Path] | None, typer.Argument()] = None) -> None:
    if models and len(models) < 2:
        raise InputError("nothing to compare with", got=models[0], wanted="the dense model and at least one other")
    made, filled = artifact.read(table, tables.KIND), tables.read(table)
    said = made.manifest["config"]
    like = TPruneConfig(**{name: said["like"][name] for name in CONVENTIONS})
    given = {name: TPruneConfig.from_dict(checkpoint.read_config(path)) for name, path in named(models or ()).items()}
    settings = Table(**{name: value for name, value in said.items() if name in Table.model_fields})
    if settings.device is not None:
        raise InputError("a table of a device", where=table, got=settings.device, wanted="one of this machine")
    meter = LocalMeter(folder, settings, filled.source_tokens)
    found = compare(filled, given or shapes(filled, like, MODELS), meter)
    write_json(out, found)
    for row in found["rows"] if models else ():
        tell(f"{row['model']}: {row['speedup']['measured']:.2f}x, predicted {row['speedup']['predicted']:.2f}x")
    for name in ("error_percent", "speedup_error_percent"):
        tell(
            f"{name}: median {found[name]['median']:.1f}, 90 % {found[name]['p90']:.1f}, bias {found[name]['bias']:.1f}"
        )


if __name__ == "__main__":
    script(_main)
