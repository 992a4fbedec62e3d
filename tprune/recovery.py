"""The stages from a pruned model to a recovered one: text to learn from, and the training."""

from pathlib import Path

from tprune.artifact import Artifact
from tprune.config import Distill, Recovery
from tprune.json_file import write_json
from tprune.section import resolved
from tprune.stage import Stage, stage

VALIDATION = "validation.json"


def distill(out: Path, teacher: Artifact, text: Artifact, settings: Distill) -> Stage:
    """The same corpus with the teacher's translations as training targets."""
    from tprune.learn import distill as room

    def make(partial_out: Path) -> None:
        import torch

        from tprune import ranks
        from tprune.learn.compatibility import open_for
        from tprune.model import checkpoint
        from tprune.model.search import Search
        from tprune.model.torch_engine import TorchEngine
        from tprune.progress import narrate

        if ranks.is_follower():
            return  # the first process writes, and what it writes is the same for all
        model = checkpoint.load(teacher.path).to("cuda" if torch.cuda.is_available() else "cpu")
        open_for(text, teacher)
        with narrate("distillation") as progress:
            room.write(partial_out, TorchEngine(model), Search.of(model), text, settings, progress)

    return stage("distill", "corpus", out, room.inputs(text, settings), {"teacher": teacher, "corpus": text}, make)


def recover(out: Path, model: Artifact, teacher: Artifact, text: Artifact, learn: Recovery, logs: Path | None) -> Stage:
    """The smaller model after training with the dense one as its teacher."""

    def make(partial_out: Path) -> None:
        from tprune.learn.compatibility import open_for
        from tprune.learn.training import fit
        from tprune.model import checkpoint

        student, wise = checkpoint.load(model.path), checkpoint.load(teacher.path) if learn.distill else None
        fit(
            partial_out,
            student,
            open_for(text, model) if wise is None else open_for(text, model, teacher),
            learn,
            logs,
            teacher=wise,
            skip=learn.skip,
            best=learn.best,
            soft_targets=learn.soft_targets,
        )

    return stage(
        f"recover {out.name}", "model", out, resolved(learn), {"model": model, "teacher": teacher, "corpus": text}, make
    )


def fresh(out: Path, model: Artifact, seed: int) -> Stage:
    """A model of the same shape with new weights: what the shape is worth by itself."""

    def make(partial_out: Path) -> None:
        import copy

        from transformers import set_seed

        from tprune.model import checkpoint
        from tprune.model.transformer import TPruneForConditionalGeneration
        from tprune.text import vocab

        old = checkpoint.load(model.path)
        set_seed(seed)
        new = TPruneForConditionalGeneration(copy.deepcopy(old.config))
        new.generation_config = copy.deepcopy(old.generation_config)
        checkpoint.save(new, partial_out)
        vocab.copy_files(model.path, partial_out)

    return stage(f"new weights {out.name}", "model", out, {"seed": seed}, {"model": model}, make)


def validate(out: Path, model: Artifact, text: Artifact) -> Stage:
    """Loss and greedy BLEU of the validation text: what choices between rows may look at."""

    from tprune.text.corpus import judged_by

    def make(partial_out: Path) -> None:
        from tprune.learn.compatibility import open_for
        from tprune.learn.evaluate import greedy_bleu, token_loss
        from tprune.model import checkpoint

        loaded, corpus = checkpoint.load(model.path), open_for(text, model)
        found = {"loss": token_loss(loaded, corpus.split(corpus.valid)), "bleu": greedy_bleu(loaded, corpus)}
        write_json(partial_out / VALIDATION, found)

    return stage(f"validate {out.name}", "validation", out, judged_by(text), {"model": model, "corpus": text}, make)
