"""Which tokens a model keeps: those of a corpus."""

from tprune.config import Target
from tprune.errors import InputError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import lines
from tprune.text import trimmed_corpus
from tprune.text.corpus import Corpus


def kept(config: TPruneConfig, target: Target, corpus: Corpus | None) -> dict[str, tuple[int, ...]]:
    """Kept units of the groups `vocab` and `output`; nothing when the target leaves the vocabulary alone.

    Raises:
        InputError: No corpus, a vocabulary for each side, or a tokenizer that cannot be trimmed.
    """
    if target.vocabulary is None:
        return {}
    if corpus is None or config.target_vocab_size is not None:
        raise InputError(
            "the vocabulary cannot be trimmed",
            where=f"target {target.name}",
            got="no corpus" if corpus is None else "a model with a vocabulary for each side",
            wanted="a corpus, whose tokens are kept" if corpus is None else "one vocabulary for both sides",
            fix="give a corpus, or leave the vocabulary as it is",
        )
    found = trimmed_corpus.choose(corpus, target.vocabulary)
    return {lines.VOCAB: found.read, lines.OUTPUT: found.said}
