"""From a model and a corpus to the directory of a trained model."""

from pathlib import Path
from typing import Any

from tprune import artifact
from tprune.config import Learn
from tprune.json_file import write_json
from tprune.learn import trainer
from tprune.model import checkpoint
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text.corpus import Corpus


def fit(
    partial_out: Path,
    model: TPruneForConditionalGeneration,
    opened: Corpus,
    learn: Learn,
    logs: Path | None,
    **how: Any,
) -> None:
    """Train as `trainer.fit` does, then write the checkpoint, the tokenizer and the history.

    Args:
        partial_out: The artifact's partial directory.
        model: What is trained, in place.
        opened: A corpus in the model's ids, see `compatibility.open_for`.
        learn: Settings of the training.
        logs: Directory for TensorBoard.
        **how: Further arguments of `trainer.fit`.
    """
    history = trainer.fit(
        model,
        opened.split(opened.train),
        opened.split(opened.valid),
        learn,
        partial_out / artifact.SCRATCH,
        logs=logs,
        **how,
    )
    checkpoint.save(model, partial_out)
    opened.tokenizer.save(partial_out)
    write_json(partial_out / "history.json", history)
