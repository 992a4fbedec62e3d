"""The stages beside a cut that goes through the whole model: a narrower residual stream, a smaller vocabulary.

A stream is narrowed before there is a plan, which then counts with the new width. A model with a vocabulary of its own
needs lessons in its own ids, and so does its teacher: the uncut model, from which `tprune.stages.prune` takes the
vocabulary only.
"""

from pathlib import Path

from tprune.artifact import Artifact
from tprune.config import Target
from tprune.stages import Stage, stage


def corpus(out: Path, text: Artifact, model: Artifact, chosen: Artifact) -> Stage:
    """The corpus in the token ids of the plan's vocabulary."""

    def make(partial_out: Path) -> None:
        from tprune.model import checkpoint
        from tprune.model.shape import TPruneConfig
        from tprune.sparsity import plan as plans
        from tprune.text import trimmed_corpus
        from tprune.text.corpus import open_corpus

        config, wanted = TPruneConfig.from_dict(checkpoint.read_config(model.path)), plans.read(chosen.path)
        plans.check(wanted, config)
        said = plans.pruned_config(config, wanted).output_size
        trimmed_corpus.prepare(open_corpus(text), partial_out, plans.tokens(config, wanted), said)

    parents = {"corpus": text, "model": model, "plan": chosen}
    return stage(f"trim {out.name}", "corpus", out, text.manifest["config"], parents, make)


def turns(model: Artifact, target: Target) -> bool:
    """Whether a target's narrower stream is one of principal components; else the plan chooses dimensions."""
    from tprune.model import checkpoint
    from tprune.model.shape import TPruneConfig
    from tprune.sparsity import rotation

    return target.hidden is not None and rotation.is_possible(
        TPruneConfig.from_dict(checkpoint.read_config(model.path))
    )


def stream(out: Path, model: Artifact, text: Artifact, target: Target) -> Stage:
    """The model with the strongest principal components of its residual stream only."""
    assert target.hidden is not None, "see `turns`"
    share = target.hidden

    def make(partial_out: Path) -> None:
        from tprune.model import checkpoint
        from tprune.sparsity import planner, rotation
        from tprune.text import vocab
        from tprune.text.corpus import open_corpus

        whole, opened = checkpoint.load(model.path), open_corpus(text)
        width = planner.on_grid(whole.config.d_model, share, target.grid)
        found = rotation.components(whole, opened.split(opened.train))
        checkpoint.save(rotation.narrow(whole, found, width), partial_out)
        vocab.copy_files(model.path, partial_out)

    config = {"hidden": share, "grid": target.grid}
    return stage(f"narrow {out.name}", "model", out, config, {"model": model, "corpus": text}, make)
