"""Scores are sacreBLEU's; the token loss is that of one sentence at a time."""

import pytest
import sacrebleu
import torch
from torch.nn import functional as F

from tests.sparsity.small_models import VOCABULARY, Sentences, config, model_of
from tprune.learn import evaluate
from tprune.learn.evaluate import bleu_tokenizer, score, token_loss

HYPOTHESES = ["Ein Mann läuft.", "Zwei Hunde spielen im Garten , wirklich .", "Die Frau (links) singt!"]
REFERENCES = ["Ein Mann läuft schnell.", "Zwei Hunde spielen im Garten, wirklich.", "Eine Frau (links) singt!"]


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        *((code, "13a") for code in ("de", None, "deu_Latn", "de_DE", "__de__", "jav_Latn", "kok")),
        *((code, "char") for code in ("ja", "ko", "jpn_Jpan", "ja_XX", "kor_Hang", "ko_KR", "__ja__")),
        *((code, "zh") for code in ("zh", "zho_Hans", "zho_Hant", "zh_CN", "zh-TW", "cmn", "yue_Hant")),
    ],
)
def test_scores_and_signatures_are_sacrebleus(language: str | None, tokenizer: str) -> None:
    found = score(HYPOTHESES, REFERENCES, language)
    bleu = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], tokenize=tokenizer)
    chrf = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES])
    assert (found.bleu, found.brevity_penalty, found.chrf) == (bleu.score, bleu.bp, chrf.score)
    assert found.length_ratio == bleu.sys_len / bleu.ref_len
    assert f"|tok:{tokenizer}|" in found.bleu_signature
    assert found.bleu_signature.endswith(f"version:{sacrebleu.__version__}")
    assert found.chrf_signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")
    assert bleu_tokenizer(language) == tokenizer


def test_perfect_and_short_translations() -> None:
    assert score(REFERENCES, REFERENCES).bleu == pytest.approx(100)
    short = score(["Ein Mann läuft schnell"] * 3, ["Ein Mann läuft schnell und weit weg ."] * 3)
    assert short.length_ratio == 0.5
    assert short.brevity_penalty == pytest.approx(2.718281828 ** (1 - 2))


def test_a_large_vocabulary_has_smaller_batches_and_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs = model_of(config()), Sentences.random(20)
    whole, sizes = token_loss(model, pairs), list[int]()
    monkeypatch.setattr(evaluate, "LOGITS", 40 * VOCABULARY)
    model.register_forward_hook(lambda *call: sizes.append(call[-1].logits.numel()))
    assert token_loss(model, pairs) == pytest.approx(whole, rel=1e-6)
    assert 20 * VOCABULARY < max(sizes) <= 40 * VOCABULARY
    monkeypatch.setattr(evaluate, "LOGITS", 1)  # not even one sentence: then one at a time
    assert token_loss(model, pairs) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(("limit", "batch_tokens"), [(None, 8192), (None, 20), (7, 30), (1, 8192), (100, 64)])
def test_token_loss_is_that_of_single_sentences(limit: int | None, batch_tokens: int) -> None:
    model, pairs = model_of(config(dropout=0.4)).train(), Sentences.random(20)
    found = token_loss(model, pairs, limit, batch_tokens)
    assert not model.training
    total, tokens = 0.0, 0
    for source, target in pairs.pairs[:limit]:
        shifted = torch.tensor([[0, *target[:-1].tolist()]])
        with torch.no_grad():
            logits = model(torch.tensor([source.tolist()]), decoder_input_ids=shifted, use_cache=False).logits[0]
        likely = F.log_softmax(logits.double(), dim=-1)
        total -= sum(likely[position, token].item() for position, token in enumerate(target.tolist()))
        tokens += len(target)
    assert found == pytest.approx(total / tokens, rel=1e-5)
