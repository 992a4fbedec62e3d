"""From a model to a smaller one: one plan and one cut, or several with training in between.

Budgets of the rounds lie geometrically between the whole model and the target. Scores are computed anew on the model
at hand, and every plan is one for the model it is cut from. With SHS the training in between is SHS training, so that
lines part again; otherwise it is recovery.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from tprune import recovery, stages, trim
from tprune.artifact import Artifact
from tprune.config import Config, Recovery, Target
from tprune.errors import BudgetError, PlanError
from tprune.stage import Stage

SETTINGS = {
    "got": "keep = {keep} of the dense model's {budget}",
    "fix": "raise keep, lower grid, or drop layers (drop_encoder_layers, drop_decoder_layers)",
}
"""How a recipe says a budget, and what to do about one that cannot be met."""
FLAGS = {
    "got": "--{budget} {keep}, a share of the dense model's",
    "fix": "raise --{budget}, lower --grid, or drop layers (--drop-encoder-layers, --drop-decoder-layers)",
}
"""How a command line does."""


@dataclass(frozen=True)
class Inputs:
    """What every target is made from.

    Attributes:
        dense: The dense model: the budget's measure, and the teacher.
        sparse: It after SHS training; None where no target needs it.
        analysis: BSSL's findings on it.
        text: Calibration text.
        lessons: What the training in between and recovery learn from.
        table: Latency table that the target's budget is counted with; None where it is no time.
        hint: Latency table that SHS training pushes by; None where all lines cost alike.
        base: What is cut at first in place of a model above: one with fewer tokens or a narrower stream.
        teacher: The dense model in the token ids of `base`, where these are others.
    """

    dense: Artifact
    sparse: Artifact | None
    analysis: Artifact
    text: Artifact
    lessons: Artifact
    table: Artifact | None = None
    hint: Artifact | None = None
    base: Artifact | None = None
    teacher: Artifact | None = None

    def source(self, target: Target) -> Artifact:
        """The model that a target is cut from, at first."""
        if self.base is not None:
            return self.base
        return self.sparse if target.reads_sparse and self.sparse is not None else self.dense

    @property
    def wise(self) -> Artifact:
        """What a smaller model learns from."""
        return self.teacher or self.dense


@dataclass(frozen=True)
class Cut:
    """The smaller model, not yet recovered, and the plan that made it from the one before."""

    plan: Artifact
    model: Artifact


def trimmed(target: Target, given: Inputs, out: Path, settle: Callable[[Stage], Artifact], *, seed: int) -> Inputs:
    """What is left to be cut after the tokens and the stream's dimensions that the target does without.

    Args:
        target: Says how many of them stay, if it says anything.
        given: Models and text as they are.
        out: Directory for what is made.
        settle: Makes a stage unless it is current.
        seed: Of the choice of calibration sentences.
    """
    if not trim.trims(target):
        return given
    whole = trim.Trimmed(given.source(target), given.dense, given.text, given.lessons)
    made = trim.prepare(target, whole, out, settle, seed)
    return replace(given, base=made.base, teacher=made.teacher, text=made.text, lessons=made.lessons)


def cut(
    config: Config,
    target: Target,
    given: Inputs,
    out: Path,
    settle: Callable[[Stage], Artifact],
    *,
    seed: int,
    template: Artifact | None = None,
    match: bool = False,
) -> Cut:
    """Make a target's plan and its model in `out`/plans and `out`/pruned, those of earlier rounds in `out`/rounds.

    Args:
        config: The recipe.
        target: Budget, criterion, planner and rounds.
        given: Models, analysis and text.
        out: The run's directory.
        settle: Makes a stage unless it is current.
        seed: Of scores that draw something, and of the choice of calibration sentences.
        template: A plan for the dense model whose shape is wanted in the end, in place of the target's budget.
        match: Of the template only the time that the table predicts is wanted.

    Raises:
        PlanError: No plan meets the target's budget.
    """
    model, plans = given.source(target), list[Artifact]()
    for number in range(1, target.rounds + 1):
        last = number == target.rounds
        folder = out / "rounds" / target.name / str(number)
        part = target if template else share_of(target, number, given.dense.path, model.path)
        stage = stages.plan(
            out / "plans" / target.name if last else folder / "plan",
            model,
            given.analysis,
            given.text,
            part,
            seed,
            table=given.table,
            dense=given.dense if given.table else None,
            earlier=tuple(plans),
            template=template,
            rounds_left=target.rounds + 1 - number,
            match=match,
        )
        try:
            plans.append(settle(stage))
        except BudgetError as error:
            raise too_small(error, target, given.dense.path, number) from None
        smaller = out / "pruned" / target.name if last else folder / "pruned"
        model = settle(stages.prune(smaller, model, plans[-1], given.text if target.compensate else None, seed))
        if not last:
            model = settle(_between(config, target, given, folder / "trained", model, tuple(plans)))
    return Cut(plans[-1], model)


def share_of(target: Target, number: int, dense: Path, model: Path) -> Target:
    """What is left to do in one round, as a target for the model at hand.

    After round r of k the model may cost keep^(r/k) of the dense one, or has to be amount^(r/k) times as fast as it;
    of n layers that go, ceil(n r/k) are gone.

    Args:
        target: The whole target.
        number: The round, from 1.
        dense: Directory of the dense model, which `keep` is a share of.
        model: Directory of the model that is cut in this round.
    """
    if target.rounds == 1 and dense == model:
        return target
    from tprune.model import checkpoint
    from tprune.model.shape import TPruneConfig
    from tprune.sparsity import cost, lines

    now, whole = (TPruneConfig.from_dict(checkpoint.read_config(path)) for path in (model, dense))

    def to_drop(stack: str, layers: int) -> int:
        there, first = (len(lines.layer_shapes(config, stack)) for config in (now, whole))
        return max(0, ceil(layers * number / target.rounds) - (first - there))  # a planner may have dropped one more

    if target.amount is not None:
        budget = {"amount": target.amount if number == target.rounds else target.amount ** (number / target.rounds)}
    else:
        share = cost.total(whole, target.budget) / cost.total(now, target.budget)
        budget = {"keep": min(1.0, target.keep ** (number / target.rounds) * share)}
    return target.model_copy(
        update={
            **budget,
            "drop_encoder_layers": to_drop("encoder", target.drop_encoder_layers),
            "drop_decoder_layers": to_drop("decoder", target.drop_decoder_layers),
        }
    )


def too_small(
    error: BudgetError, target: Target, dense: Path, number: int = 1, words: Mapping[str, str] = SETTINGS
) -> PlanError:
    """A budget that cannot be met, said as it was given: in shares of the dense model.

    Args:
        error: Says it of the model at hand.
        target: The whole target.
        dense: Directory of the dense model.
        number: The round, from 1.
        words: What `SETTINGS` says, where it was not settings that gave the budget.
    """
    from tprune.model import checkpoint
    from tprune.model.shape import TPruneConfig
    from tprune.sparsity import cost

    share = error.least / cost.total(TPruneConfig.from_dict(checkpoint.read_config(dense)), target.budget)
    if target.drop_encoder_layers or target.drop_decoder_layers:  # later rounds can do with less
        share **= target.rounds / number
    return PlanError(
        error.what,
        where=f"target {target.name}" + (f", round {number}" if target.rounds > 1 else ""),
        got=words["got"].format(keep=f"{target.keep:g}", budget=target.budget),
        wanted=f"at least {ceil(share * 1000) / 1000:.3f}",
        fix=words["fix"].format(budget=target.budget),
    )


def _between(
    config: Config, target: Target, given: Inputs, out: Path, model: Artifact, plans: tuple[Artifact, ...]
) -> Stage:
    logs = out.with_name(out.name + ".logs")
    if target.reads_sparse:
        settings = config.shs.model_copy(update={"learn": config.between})
        return stages.shs(
            out,
            model,
            given.analysis,
            given.lessons,
            settings,
            logs,
            teacher=given.wise,
            table=given.hint,
            earlier=plans,
        )
    settings_of_recovery = Recovery(**config.between.model_dump())
    return recovery.recover(out, model, given.wise, given.lessons, settings_of_recovery, logs)
