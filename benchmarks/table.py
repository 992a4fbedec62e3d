"""The latency table: what each component costs on one machine, in milliseconds, and what a whole model then takes.

    parts(model)   = fixed + output(vocabulary) + sum over layers and sub-layers of cost(width)
    latency(model) = calibration(parts(model))

One table is for one engine, precision, number of threads and machine, and for sentences of given lengths. Every cost is
measured on a grid of widths and interpolated between (`tprune.benchmarks.filling` fills it).
"""

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError, model_validator

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks.calibration import Calibration
from tprune.benchmarks.record import Environment, Verdict
from tprune.benchmarks.standings import machine
from tprune.errors import ArtifactError, InputError
from tprune.json_file import read_json, write_json
from tprune.model.shape import TPruneConfig
from tprune.section import Section, problems
from tprune.sparsity import latency, lines

KIND, FILE, SCHEMA = "latency-table", "table.json", 1
FIXED, OUTPUT = "fixed", "output"


class Surface(Section):
    """Milliseconds on a grid, linear between its points along every axis."""

    axes: Mapping[str, tuple[int, ...]]
    """Rising positions by the axis's name, such as d_model, heads, width."""
    ms: Any
    """Nested lists, one level an axis."""

    @model_validator(mode="after")
    def _is_a_grid(self) -> Self:
        wanted = tuple(len(positions) for positions in self.axes.values())
        if np.shape(self.ms) != wanted:
            raise ValueError(f"values of shape {np.shape(self.ms)} on axes of lengths {wanted}")
        for name, positions in self.axes.items():
            if not positions or list(positions) != sorted(set(positions)):
                raise ValueError(f"positions on axis {name} do not rise")
        return self

    def at(self, where: str, **point: int) -> float:
        """Interpolated milliseconds.

        Args:
            where: What is looked up, for the error.
            **point: A position on every axis.

        Raises:
            InputError: A position beyond the grid's ends; all of them in one error.
        """
        beyond = [
            f"{name} {point[name]}, measured from {positions[0]} to {positions[-1]}"
            for name, positions in self.axes.items()
            if not positions[0] <= point[name] <= positions[-1]
        ]
        if beyond:
            raise InputError(
                "outside the latency table",
                where=where,
                problems=beyond,
                fix="keep to what was measured (--grid), or fill a table like the model: tprune table OUT --like MODEL",
            )
        corners = [_neighbors(positions, point[name]) for name, positions in self.axes.items()]
        return float(
            sum(
                np.prod([share for _, share in corner]) * _entry(self.ms, [index for index, _ in corner])
                for corner in itertools.product(*corners)
            )
        )


class LatencyTable(Section):
    """Costs of all components of a model, for sentences of one length."""

    schema_version: int = SCHEMA
    engine: str
    engine_version: str
    precision: str
    threads: int
    environment: Environment
    source_tokens: int
    target_tokens: int
    """Decoding steps, the one that gives eos included."""
    equal_widths: bool
    """Whether the decoder's attentions compute with keys as wide as values, the narrower filled up with zeros."""
    surfaces: Mapping[str, Surface]
    """By component: `encoder.ffn` and the like, `output`, `fixed`."""
    calibration: Calibration = Calibration()
    """What whole models take for the sum of their parts; tables without one predict the sum."""
    valid: Verdict = Verdict(ok=True)
    """Whether the times may be quoted: a device may have been warm."""
    raw: tuple[Mapping[str, Any], ...] = ()
    """What was measured: the median of every round of every model."""

    def sublayer(self, d_model: int, stack: str, name: str, shape: Any) -> float:
        """Milliseconds of one sub-layer; 0 when it is gone.

        Args:
            d_model: Width of the residual stream.
            stack: "encoder" or "decoder".
            name: "self_attn", "cross_attn" or "ffn".
            shape: {"heads", "qk", "v"} or the feed-forward width.

        Raises:
            InputError: The table has no such width.
        """
        if not lines.is_there(shape):
            return 0.0
        where, surface = f"{stack}.{name}", self.surfaces[f"{stack}.{name}"]
        if name == "ffn":
            return surface.at(where, d_model=d_model, width=shape)
        widths = (shape["qk"], shape["v"])
        if self.equal_widths and stack == "decoder":
            widths = (max(widths),) * 2
        # measured with qk = v: each is responsible for two of four projections and one of two products
        return sum(surface.at(where, d_model=d_model, heads=shape["heads"], width=width) for width in widths) / 2

    def rest(self, d_model: int, vocabulary: int) -> float:
        """Milliseconds of everything that is in no layer, for an output projection to so many tokens.

        Raises:
            InputError: The table has no such vocabulary.
        """
        return self.surfaces[FIXED].at(FIXED, d_model=d_model) + self.surfaces[OUTPUT].at(
            OUTPUT, d_model=d_model, vocabulary=vocabulary
        )

    def whole(self, parts_ms: float) -> float:
        """Milliseconds of a whole model whose parts take so long."""
        return self.calibration.whole(parts_ms)

    def parts(self, whole_ms: float) -> float:
        """Milliseconds of the parts of a whole model that takes so long."""
        return self.calibration.parts(whole_ms)


def predict(table: LatencyTable, config: TPruneConfig) -> float:
    """Milliseconds of one sentence.

    Raises:
        InputError: A width, vocabulary or d_model that the table does not reach.
    """
    return latency.total(config, table)


def by_component(table: LatencyTable, config: TPruneConfig) -> dict[str, float]:
    """Milliseconds by component over all layers, as `decoder.ffn`, and `output`, all that is in no layer.

    What the whole model takes more or less than the sum is shared in proportion.

    Raises:
        InputError: As for `predict`.
    """
    found: dict[str, float] = {}
    parts = breakdown(table, config)
    share = predict(table, config) / sum(parts.values())
    for part, ms in parts.items():
        stack, _, name = part.partition(".")
        component = f"{stack}.{name.partition('.')[2]}" if name else OUTPUT
        found[component] = found.get(component, 0.0) + ms * share
    return dict(sorted(found.items()))


def breakdown(table: LatencyTable, config: TPruneConfig) -> dict[str, float]:
    """Milliseconds by part, as measured among its own kind: `rest`, and every sub-layer, as `decoder.0.ffn`.

    Errors as for `predict`.
    """
    parts = {"rest": table.rest(config.d_model, config.output_size)}
    for stack, index, name, shape in _sublayers(config):
        parts[f"{stack}.{index}.{name}"] = table.sublayer(config.d_model, stack, name, shape)
    return parts


def unit_costs(table: LatencyTable, config: TPruneConfig) -> dict[str, float]:
    """d(latency)/d(unit) by group of `lines.groups(config, lines.WIDTH_KINDS)`, in milliseconds.

    The slope from the least width of the table to the model's own: what a unit saves on the way down. A unit is one
    width of one head. Where keys are filled up to the values' width or the other way, each has half of the slope.

    Raises:
        InputError: A width that the table does not reach.
    """
    found = {}
    for stack, index, name, shape in _sublayers(config):
        where = f"{stack}.{index}.{name}"
        least = table.surfaces[f"{stack}.{name}"].axes["width"][0]
        if name == "ffn":
            found[where] = _slope(table, config, stack, name, shape, least, shape - least)
            continue
        low = {**shape, "qk": min(least, shape["qk"]), "v": min(least, shape["v"])}
        units = shape["heads"] * (shape["qk"] + shape["v"] - low["qk"] - low["v"])
        for kind in ("qk", "vo"):
            found[f"{where}.{kind}"] = _slope(table, config, stack, name, shape, low, units)
    return found


def forecast(table: LatencyTable, how: Mapping[str, Any]) -> str:
    """One line on what a plan is predicted to take, and on which machine; `how` is the plan's own."""
    more = table.environment.model_extra or {}
    pin = more.get("pin")
    where = [machine(table.environment), more.get("name"), pin and f"pinned to {pin}", *table.valid.reasons]
    return (
        f"predicted {how['predicted_ms']:.2f} ms instead of {how['dense_ms']:.2f}, {how['predicted_speedup']:.2f}x, "
        f"for {table.engine} {table.precision}, threads: {table.threads}, {', '.join(filter(None, where))}"
    )


def open_table(path: Path) -> Artifact:
    """A table that `tprune table` has filled, or the JSON file of one, as an artifact.

    Raises:
        ArtifactError: Neither.
    """
    if path.is_dir() and not (path / artifact.MANIFEST).exists():
        raise ArtifactError(
            "no latency table",
            where=path,
            wanted="what `tprune table` has written, or its JSON file",
            fix="give one of these",
        )
    if not path.is_file():
        return artifact.read(path, KIND)
    read(path)
    entry = {"sha256": artifact.sha256(path), "bytes": path.stat().st_size}
    # the same table in an artifact's directory has the same identity
    return Artifact(path, {"kind": KIND, "files": {FILE: entry}})


def read(path: Path) -> LatencyTable:
    """Read a table from its artifact's directory, or from a JSON file.

    Raises:
        ArtifactError: No such file, no table, or one of an unknown schema.
    """
    file = path / FILE if path.is_dir() else path
    content = read_json(file)
    schema = content.get("schema_version") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ArtifactError(
            "not a latency table of this version",
            where=file,
            got=f"schema_version {schema}",
            wanted=SCHEMA,
            fix="fill it again with `tprune table`",
        )
    try:
        return LatencyTable.model_validate(content)
    except ValidationError as error:
        raise ArtifactError(
            "not a latency table", where=file, problems=problems(error), fix="fill it again with `tprune table`"
        ) from None


def write(table: LatencyTable, path: Path) -> None:
    """Write a table as JSON."""
    write_json(path, table.model_dump(mode="json"))


def _sublayers(config: TPruneConfig) -> Iterator[tuple[str, int, str, Any]]:
    for stack in lines.STACKS:
        for index, layer in enumerate(lines.layer_shapes(config, stack)):
            for name in lines.sublayers(layer):
                yield stack, index, name, layer[name]


def _slope(table: LatencyTable, config: TPruneConfig, stack: str, name: str, shape: Any, low: Any, units: int) -> float:
    if units <= 0:
        return 0.0
    whole, least = (table.sublayer(config.d_model, stack, name, one) for one in (shape, low))
    return max(whole - least, 0.0) / units


def _neighbors(positions: Sequence[int], wanted: int) -> list[tuple[int, float]]:
    """The grid's indices around a position, and the share of each."""
    right = bisect.bisect_left(positions, wanted)
    if positions[right] == wanted:
        return [(right, 1.0)]
    share = (wanted - positions[right - 1]) / (positions[right] - positions[right - 1])
    return [(right - 1, 1 - share), (right, share)]


def _entry(nested: Any, indices: Sequence[int]) -> float:
    for index in indices:
        nested = nested[index]
    return float(nested)
