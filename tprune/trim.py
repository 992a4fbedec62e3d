"""What is cut before any plan: a narrower residual stream, and tokens that the text does not hold.

Both go through the whole model, whose plans, rounds and latency then count with what is left. A model with fewer
tokens has ids of its own: what it learns from is turned into them, and so is its teacher, which stays whole otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tprune import stages
from tprune.artifact import Artifact
from tprune.config import Target
from tprune.section import resolved
from tprune.stage import Stage, stage


def trims(target: Target) -> bool:
    """Whether there is anything to do for a target."""
    return target.hidden is not None or target.vocabulary is not None


@dataclass(frozen=True)
class Trimmed:
    """What a target's plan begins with, and what recovery learns from.

    Attributes:
        base: The model that is cut.
        teacher: The dense model in the ids of `base`.
        text: Calibration text in them.
        lessons: What is learned from, in them.
    """

    base: Artifact
    teacher: Artifact
    text: Artifact
    lessons: Artifact


def prepare(target: Target, whole: Trimmed, out: Path, settle: Callable[[Stage], Artifact], seed: int) -> Trimmed:
    """Narrow the stream and trim the vocabulary, as the target says.

    Args:
        target: Share of the stream, and how often a token has to occur.
        whole: Models and text as they are.
        out: Directory for what is made.
        settle: Makes a stage unless it is current.
        seed: Of the choice of calibration sentences.

    Raises:
        InputError: The tokenizer's vocabulary cannot be trimmed.
    """
    from tprune.text import trimming

    made = whole
    if target.vocabulary is not None:
        trimming.require_possible(made.base.path)
    if target.hidden is not None and _turns(made.base):
        made = replace(made, base=settle(stream(out / "stream", made.base, made.text, target, seed)))
        if target.vocabulary is None:
            return made
    chosen = settle(plan(out / "plan", made, target, seed))
    base = settle(stages.prune(out / "model", made.base, chosen))
    if target.vocabulary is None:
        return replace(made, base=base)
    teacher = settle(stages.prune(out / "dense", made.teacher, chosen, tokens_only=True))
    text = settle(corpus(out / "corpus", made.text, made.base, chosen))
    distilled = made.lessons.identity != made.text.identity
    lessons = settle(corpus(out / "lessons", made.lessons, made.base, chosen)) if distilled else text
    return Trimmed(base, teacher, text, lessons)


def stream(out: Path, model: Artifact, text: Artifact, target: Target, seed: int) -> Stage:
    """The model with the strongest principal components of its residual stream only."""

    def make(partial_out: Path) -> None:
        from tprune.learn.compatibility import open_for
        from tprune.model import checkpoint
        from tprune.sparsity import lines, rotation
        from tprune.text import vocab

        whole, opened = checkpoint.load(model.path), open_for(text, model)
        width = lines.width_of_share(whole.config.d_model, target.hidden or 1, target.grid)
        found = rotation.components(whole, opened.split(opened.train), seed)
        checkpoint.save(rotation.narrow(whole, found, width), partial_out)
        vocab.copy_files(model.path, partial_out)

    config = {"hidden": target.hidden, "grid": target.grid, "seed": seed}
    return stage(f"stream {out.parent.name}", "model", out, config, {"model": model, "corpus": text}, make)


def plan(out: Path, given: Trimmed, target: Target, seed: int) -> Stage:
    """Which tokens stay; and which dimensions, where the stream cannot be turned."""
    config = {name: value for name, value in resolved(target).items() if name in ("hidden", "vocabulary", "grid")}
    chooses = target.hidden is not None and not _turns(given.base)
    config |= {"seed": seed} if chooses else {}

    def make(partial_out: Path) -> None:
        from tprune.learn.compatibility import open_for
        from tprune.model import checkpoint
        from tprune.sparsity import lines, scores, vocabulary
        from tprune.sparsity import plan as plans

        source = checkpoint.load(given.base.path)
        corpora = [open_for(text, given.base) for text in (given.text, given.lessons)]
        keep: dict[str, tuple[int, ...]] = {}
        if target.hidden is not None and chooses:
            # norms choose no better than chance (benchmarks/results/experiments.md)
            groups = lines.groups(source.config, ("hidden",))
            found = scores.score("taylor", source, groups, corpora[0].split(corpora[0].train), seed)
            width = lines.width_of_share(source.config.d_model, target.hidden, target.grid)
            keep[lines.HIDDEN] = tuple(sorted(found[lines.HIDDEN].topk(width).indices.tolist()))
        if target.vocabulary is not None:
            keep |= vocabulary.kept(source.config, corpora, target.vocabulary)
        plans.write(plans.make(target.name, source.config, keep, config), partial_out / "plan.json")

    parents = {"model": given.base, "corpus": given.text, "lessons": given.lessons}
    return stage(f"trim plan {target.name}", "plan", out, config, parents, make)


def corpus(out: Path, text: Artifact, model: Artifact, chosen: Artifact) -> Stage:
    """The corpus in the token ids of the plan's vocabulary."""

    from tprune.text.corpus import derived, open_corpus

    def make(partial_out: Path) -> None:
        from tprune.model import checkpoint
        from tprune.model.shape import TPruneConfig
        from tprune.sparsity import plan as plans
        from tprune.text import trimmed_corpus

        config, wanted = TPruneConfig.from_dict(checkpoint.read_config(model.path)), plans.read(chosen.path)
        plans.check(wanted, config)
        said = plans.pruned_config(config, wanted).output_size
        trimmed_corpus.prepare(open_corpus(text), partial_out, plans.tokens(config, wanted), said)

    parents = {"corpus": text, "model": model, "plan": chosen}
    return stage(f"trim {out.parent.name} {out.name}", "corpus", out, derived(text), parents, make)


def _turns(model: Artifact) -> bool:
    from tprune.model import checkpoint
    from tprune.model.shape import TPruneConfig
    from tprune.sparsity import rotation

    return rotation.is_possible(TPruneConfig.from_dict(checkpoint.read_config(model.path)))
