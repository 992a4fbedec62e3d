"""How good a model is: token loss, BLEU and chrF with their signatures, paired comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sacrebleu.metrics import BLEU, CHRF
from torch.nn import functional as F

from tprune.learn.batches import Parallel, cut, inputs_and_labels
from tprune.model.decode import translate
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text import languages
from tprune.text.corpus import Corpus

LOGITS = 1 << 26  # at a time: 0.25 GiB in float32, and as much again for their log-softmax


@dataclass(frozen=True)
class Quality:
    """Corpus scores, and how they were made."""

    bleu: float
    bleu_signature: str
    chrf: float
    chrf_signature: str
    brevity_penalty: float
    length_ratio: float


def score(hypotheses: Sequence[str], references: Sequence[str], language: str | None = None) -> Quality:
    """BLEU and chrF2 of detokenized, cased text.

    Args:
        hypotheses: One translation a segment.
        references: One reference a segment.
        language: Target language, which decides the tokenizer; see `bleu_tokenizer`.
    """
    bleu, chrf = BLEU(tokenize=bleu_tokenizer(language)), CHRF()
    found = bleu.corpus_score(list(hypotheses), [list(references)])
    return Quality(
        bleu=found.score,
        bleu_signature=str(bleu.get_signature()),
        chrf=chrf.corpus_score(list(hypotheses), [list(references)]).score,
        chrf_signature=str(chrf.get_signature()),
        brevity_penalty=found.bp,
        length_ratio=found.ratio,
    )


def bleu_tokenizer(language: str | None) -> str:
    """sacreBLEU's tokenizer for a language, by whatever code: characters where words are not spaced, else 13a."""
    return {"ja": "char", "ko": "char", "zh": "zh"}.get(languages.base(language) or "", "13a")


@torch.no_grad()
def token_loss(
    model: TPruneForConditionalGeneration, pairs: Parallel, limit: int | None = None, batch_tokens: int = 8192
) -> float:
    """Mean cross entropy in nats a target token, over the first `limit` pairs; leaves the model in eval mode.

    Args:
        model: Any size.
        pairs: Source and target ids.
        limit: Number of pairs; None: all.
        batch_tokens: Tokens of the longer sides at a time, padding included; fewer where these have too many logits.
    """
    model.eval()
    batch_tokens = max(1, min(batch_tokens, LOGITS // model.config.output_size))
    lengths = np.asarray(pairs.lengths)[:limit]
    longest = lengths.max(axis=1)
    total, tokens = 0.0, 0
    for batch in cut(np.lexsort(lengths.T), longest, batch_tokens):
        inputs, labels = inputs_and_labels(pairs, batch, model)
        logits = model(**inputs, use_cache=False).logits
        total += F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum").item()
        tokens += int((labels != -100).sum())
    return total / tokens


def greedy_bleu(model: TPruneForConditionalGeneration, corpus: Corpus, sentences: int | None = None) -> float | None:
    """Greedy BLEU on the first validation sentences, on all without a number; None for no sentences."""
    if sentences == 0:
        return None
    pairs = corpus.split(corpus.valid)
    sources = [pairs[index][0].tolist() for index in range(len(pairs))][:sentences]
    found = translate(TorchEngine(model), sources, Search.of(model))
    return score(corpus.tokenizer.decode(found), corpus.raw(corpus.valid)[1][:sentences], corpus.target).bleu
