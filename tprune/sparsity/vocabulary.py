"""Which tokens a model keeps: those of its text."""

from collections.abc import Sequence

from tprune.errors import ModelError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import lines
from tprune.text import trimmed_corpus
from tprune.text.corpus import Corpus


def kept(config: TPruneConfig, corpora: Sequence[Corpus], minimum: int) -> dict[str, tuple[int, ...]]:
    """Kept units of the groups `vocab` and `output`; arguments as for `trimmed_corpus.choose`.

    Raises:
        ModelError: A vocabulary for each side.
        InputError: A tokenizer that cannot be trimmed.
    """
    if config.target_vocab_size is not None:
        raise ModelError(
            "the vocabulary cannot be trimmed",
            got="a vocabulary for each side",
            wanted="one for both sides",
            fix="leave the vocabulary as it is",
        )
    found = trimmed_corpus.choose(corpora, minimum)
    return {lines.VOCAB: found.read, lines.OUTPUT: found.said}
