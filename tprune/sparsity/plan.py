"""A plan: which units are kept, per group. Data, stored as JSON, never code."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tprune.errors import PlanError
from tprune.json_file import read_json, write_json
from tprune.model.shape import TPruneConfig
from tprune.section import problems
from tprune.sparsity import lines
from tprune.sparsity.lines import STACKS

SCHEMA = 1


class Plan(BaseModel):
    """Kept units by group name; a group that is not named keeps everything.

    qk and vo units are numbered over all heads of the unpruned attention, head by head. The kept
    heads of an attention keep equally many of each; a dropped head's units are not listed.

    Units of `vocab` and `output` are token ids of the unpruned vocabulary. With one vocabulary for both sides, a
    token that is not kept to be read is not kept to be said either.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(SCHEMA, alias="schema")
    name: str
    shapes: dict[str, Any]
    """Shapes of the model the plan was made for, to refuse any other."""
    keep: dict[str, tuple[int, ...]]
    how: dict[str, Any] = {}
    """Score, planner, budget: how the plan was made."""


def make(name: str, config: TPruneConfig, keep: Mapping[str, tuple[int, ...]], how: Mapping[str, Any]) -> Plan:
    """A checked plan for models of this configuration.

    Raises:
        PlanError: It does not fit; see `check`.
    """
    plan = Plan(schema=SCHEMA, name=name, shapes=shapes_of(config), keep=dict(keep), how=dict(how))
    check(plan, config)
    return plan


def read(path: Path) -> Plan:
    """Read a plan from a `plan.json` or from the directory that holds it.

    Raises:
        ArtifactError: No such file, or no JSON.
        PlanError: JSON, but no plan.
    """
    path = path / "plan.json" if path.is_dir() else path
    try:
        plan = Plan.model_validate(read_json(path))
    except ValidationError as error:
        raise PlanError("not a plan", where=path, problems=problems(error), fix="make it with `tprune prune`") from None
    if plan.schema_version != SCHEMA:
        raise PlanError(
            "plan of an unknown schema",
            where=path,
            got=plan.schema_version,
            wanted=SCHEMA,
            fix="make it again with this version of tprune",
        )
    return plan


def write(plan: Plan, path: Path) -> None:
    """Write `plan.json`."""
    write_json(path, plan.model_dump(mode="json", by_alias=True))


def shapes_of(config: TPruneConfig) -> dict[str, Any]:
    """What a plan has to agree on with its model."""
    return {
        "d_model": config.d_model,
        "vocabulary": [config.vocab_size, config.target_vocab_size, config.output_vocab_size],
        **{stack: lines.layer_shapes(config, stack) for stack in STACKS},
    }


def check(plan: Plan, config: TPruneConfig) -> None:
    """Refuse a plan that does not fit the model; all reasons at once.

    Raises:
        PlanError: Made for other shapes, unknown groups, units out of range, unequal heads, or an
            emptied group.
    """
    shapes = shapes_of(config)
    if "vocabulary" not in plan.shapes and not trims(plan):
        del shapes["vocabulary"]  # plans that leave the vocabulary alone need not say how large it is
    if plan.shapes != shapes:
        raise PlanError(
            "this plan was made for another model",
            where=f"plan {plan.name}",
            got=_brief(plan.shapes),
            wanted=_brief(shapes_of(config)),
            fix="make a plan for this model with `tprune prune`",
        )
    known = {group.name: group for group in lines.groups(config)}
    found = [f"{name}: no such group" for name in plan.keep if name not in known]
    for name, units in plan.keep.items():
        if name not in known:
            continue
        if list(units) != sorted(set(units)) or (units and not 0 <= units[0] <= units[-1] < known[name].size):
            found.append(f"{name}: units must rise from 0 to at most {known[name].size - 1}")
        elif not units and known[name].kind != "sublayer":
            least = {"layer": "keep at least one layer", "hidden": "keep at least one dimension"}
            instead = least.get(known[name].kind, "drop the sub-layer in its `sublayer` group instead")
            found.append(f"{name}: keeps nothing; {instead}")
        elif known[name].heads > 1 or known[name].kind in ("qk", "vo"):
            found += _unequal_heads(known[name], units, plan.keep)
        elif known[name].kind == "vocab" and (missing := set(special_tokens(config)) - set(units)):
            found.append(f"{name}: special tokens must stay: {', '.join(map(str, sorted(missing)))}")
    if found:
        raise PlanError(
            "the plan does not fit the model",
            where=f"plan {plan.name}",
            problems=found,
            fix="make a plan for this model with `tprune prune`",
        )


def kept(plan: Plan, group: lines.Group) -> tuple[int, ...]:
    """Kept units of a group: all where the plan names none, without those of dropped heads."""
    units = plan.keep.get(group.name, tuple(range(group.size)))
    if group.kind in ("qk", "vo"):
        heads = plan.keep.get(group.name.rpartition(".")[0] + ".head")
        if heads is not None:
            width = group.size // group.heads
            units = tuple(unit for unit in units if unit // width in heads)
    return units


def of_vocabulary(plan: Plan, config: TPruneConfig) -> Plan:
    """The part of a plan that speaks of tokens, for any model of that vocabulary.

    Raises:
        PlanError: It does not fit.
    """
    keep = {name: plan.keep[name] for name in (lines.VOCAB, lines.OUTPUT) if name in plan.keep}
    shapes = {**shapes_of(config), "vocabulary": plan.shapes.get("vocabulary")}
    part = plan.model_copy(update={"keep": keep, "shapes": shapes})
    check(part, config)
    return part


def trims(plan: Plan) -> bool:
    """Whether the vocabulary changes."""
    return not {lines.VOCAB, lines.OUTPUT}.isdisjoint(plan.keep)


def tokens(config: TPruneConfig, plan: Plan) -> tuple[int, ...]:
    """Old id of every token of the new (source) vocabulary."""
    return order(config, plan, next(group for group in lines.groups(config, ("vocab",)) if group.name == lines.VOCAB))


def special_tokens(config: TPruneConfig) -> tuple[int, ...]:
    """Token ids that every vocabulary keeps, and keeps first, so that they are the same on both sides; rising."""
    names = ("pad", "eos", "bos", "decoder_start", "forced_bos")
    found = (getattr(config, f"{name}_token_id") for name in names)
    return tuple(sorted({token for token in found if token is not None}))


def order(config: TPruneConfig, plan: Plan, group: lines.Group) -> tuple[int, ...]:
    """Old number of every unit after the cut: rising, but for tokens.

    Of these, the special ones come first. With one vocabulary for both sides those that can be said come next, as the
    output projection is the first rows of the embedding.
    """
    units = kept(plan, group)
    if group.kind != "vocab" or not trims(plan):
        return units
    first = special_tokens(config)
    if config.target_vocab_size is None:
        readable = set(plan.keep.get(lines.VOCAB, range(config.vocab_size)))
        said = [unit for unit in plan.keep.get(lines.OUTPUT, range(config.output_size)) if unit in readable]
        first = tuple(dict.fromkeys((*first, *said)))
        if group.name == lines.OUTPUT:
            return first
    return tuple(dict.fromkeys((*first, *units)))


def pruned_config(config: TPruneConfig, plan: Plan) -> TPruneConfig:
    """The configuration after the cut.

    The embeddings' scale stays that of the uncut width; token ids are those of the new vocabulary.
    """
    smaller = copy.deepcopy(config)
    shapes = pruned_shapes(config, plan)
    smaller.encoder_shapes, smaller.decoder_shapes = shapes["encoder"], shapes["decoder"]
    smaller.d_model = len(plan.keep.get(lines.HIDDEN, range(config.d_model)))
    if not trims(plan):
        return smaller
    read, said = (order(config, plan, group) for group in lines.groups(config, ("vocab",)))
    smaller.vocab_size = len(read)
    if config.target_vocab_size is not None:
        smaller.target_vocab_size = len(said)
    else:
        smaller.output_vocab_size = len(said) if len(said) < len(read) else None
    for name in vars(config):
        if name.endswith("_token_id") and getattr(config, name) is not None:
            setattr(smaller, name, said.index(getattr(config, name)))
    return smaller


def pruned_shapes(config: TPruneConfig, plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Shapes after the cut, by stack."""
    by_name = {group.name: group for group in lines.groups(config)}
    result: dict[str, list[dict[str, Any]]] = {}
    for stack in STACKS:
        result[stack] = []
        for index in kept(plan, by_name[f"{stack}.layer"]):
            shape = lines.layer_shapes(config, stack)[index]
            alive = lines.sublayers(shape)
            alive = [alive[unit] for unit in kept(plan, by_name[f"{stack}.{index}.sublayer"])]
            result[stack].append(
                {
                    name: _sublayer_shape(plan, by_name, f"{stack}.{index}.{name}", old, name in alive)
                    for name, old in shape.items()
                }
            )
    return result


def _sublayer_shape(plan: Plan, by_name: Mapping[str, lines.Group], name: str, old: Any, alive: bool) -> Any:
    if not isinstance(old, Mapping):
        return len(kept(plan, by_name[name])) if alive else 0
    if not alive:
        return {**old, "heads": 0}
    heads = len(kept(plan, by_name[f"{name}.head"]))
    return {
        **old,
        "heads": heads,
        "qk": len(kept(plan, by_name[f"{name}.qk"])) // heads,
        "v": len(kept(plan, by_name[f"{name}.vo"])) // heads,
    }


def _unequal_heads(group: lines.Group, units: tuple[int, ...], keep: Mapping[str, tuple[int, ...]]) -> list[str]:
    width = group.size // group.heads
    alive = keep.get(group.name.rpartition(".")[0] + ".head", tuple(range(group.heads)))
    counts = {head: sum(unit // width == head for unit in units) for head in range(group.heads)}
    if any(counts[head] for head in counts if head not in alive):
        return [f"{group.name}: lists units of a dropped head"]
    # heads out of range are the head group's own problem
    if len({counts[head] for head in alive if head in counts}) > 1:
        return [f"{group.name}: the heads of an attention must keep equally many units"]
    return []


def _brief(shapes: Mapping[str, Any]) -> str:
    def layer(shape: Mapping[str, Any]) -> str:
        return "/".join(
            f"{value['heads']}x{value['qk']},{value['v']}" if isinstance(value, Mapping) else str(value)
            for value in shape.values()
        )

    stacks = (f"{stack} [{' '.join(layer(shape) for shape in shapes.get(stack, []))}]" for stack in STACKS)
    sizes = "/".join(str(size) for size in shapes.get("vocabulary", ()) if size is not None)
    return " ".join([f"d{shapes.get('d_model')}", *([f"vocabulary {sizes}"] if sizes else []), *stacks])
