"""Converted models give the logits and translations of Hugging Face's own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, T5Config

from tests.model.random_models import EOS, FAMILIES, PAD, VOCABULARY, generated, padded, sentences, theirs
from tprune.errors import ModelError
from tprune.model import convert as converter
from tprune.model.checkpoint import load, save
from tprune.model.convert import from_hugging_face
from tprune.model.decode import translate
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine

CASES = [(family, case) for family in FAMILIES for case in range(5)]


def difference(one: Any, other: Any) -> float:
    """Largest difference of two models' logits on padded sources."""
    source, mask = map(torch.from_numpy, padded(sentences(6)))
    targets = torch.randint(EOS + 1, VOCABULARY, (6, 9))
    with torch.no_grad():
        logits = [model(source, mask, decoder_input_ids=targets).logits for model in (one, other)]
    assert logits[0].std() > 0.1
    return float((logits[0] - logits[1]).abs().max())


def test_every_family_is_tested() -> None:
    assert set(FAMILIES) == set(converter.FAMILIES)


@pytest.mark.parametrize(("family", "case"), CASES)
def test_logits_and_translations_are_those_of_the_original(family: str, case: int) -> None:
    original = theirs(family, case)
    model = from_hugging_face(original)
    assert difference(original, model) < 1e-5
    ids = sentences(10)
    for beams in (1, 4):
        expected = generated(original, ids, num_beams=beams, max_new_tokens=12)
        assert generated(model, ids, num_beams=beams, max_new_tokens=12) == expected
        search = Search.of(model, beams=beams, max_new_tokens=12)
        assert translate(TorchEngine(model), ids, search) == expected


@pytest.mark.parametrize(("family", "case"), CASES)
def test_a_saved_conversion_is_an_ordinary_checkpoint(family: str, case: int, tmp_path: Path) -> None:
    original = theirs(family, case)
    model = from_hugging_face(original)
    save(model, tmp_path)
    for again in (AutoModelForSeq2SeqLM.from_pretrained(tmp_path), load(tmp_path)):
        assert difference(original, again) < 1e-5
        for name in ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids"):
            assert getattr(again.generation_config, name) == getattr(original.generation_config, name), name
        assert not again.training


def test_ties_are_kept() -> None:
    def parameters(**settings: Any) -> tuple[int, int]:
        original = theirs("marian", 0, tie_word_embeddings=True, **settings)
        model = from_hugging_face(original)
        model.output_bias = None  # a buffer in Marian
        fixed = sum(stack.embed_positions.weight.numel() for stack in (original.model.encoder, original.model.decoder))
        return original.num_parameters() - fixed, model.num_parameters() - model.positions.weight.numel()

    for settings in ({}, {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": VOCABULARY + 6}):
        theirs_count, ours_count = parameters(**settings)
        assert theirs_count == ours_count


def test_a_zero_output_bias_is_left_out() -> None:
    original = theirs("bart", 1)
    original.final_logits_bias.zero_()
    model = from_hugging_face(original)
    assert model.output_bias is None
    assert difference(original, model) < 1e-5


def test_generation_settings_are_a_copy() -> None:
    original = theirs("mbart", 1)
    original.generation_config.forced_bos_token_id = 7
    model = from_hugging_face(original)
    assert model.generation_config.forced_bos_token_id == model.config.forced_bos_token_id == 7
    model.generation_config.forced_bos_token_id = 8
    assert original.generation_config.forced_bos_token_id == 7


def test_sequences_as_long_as_the_position_table_work() -> None:
    for family in FAMILIES:
        original = theirs(family, 2, max_position_embeddings=32)
        model = from_hugging_face(original)
        source, target = torch.randint(EOS + 1, VOCABULARY, (2, 3, 32))
        with torch.no_grad():
            expected = original(source, decoder_input_ids=target).logits
            assert (model(source, decoder_input_ids=target).logits - expected).abs().max() < 1e-5
        assert model.config.max_positions == 32


@pytest.mark.parametrize("pad", [0, 3])
def test_m2m100_positions_begin_behind_padding(pad: int) -> None:
    original = theirs("m2m_100", 3, pad_token_id=pad)
    source = torch.randint(PAD + 3, VOCABULARY, (2, 32))
    with torch.no_grad():
        expected = original(source, decoder_input_ids=source).logits
        assert (from_hugging_face(original)(source, decoder_input_ids=source).logits - expected).abs().max() < 1e-5


def test_other_architectures_are_refused_with_the_list() -> None:
    model = AutoModelForSeq2SeqLM.from_config(T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1))
    with pytest.raises(ModelError) as raised:
        from_hugging_face(model)
    assert str(raised.value) == (
        "T5ForConditionalGeneration: unsupported architecture · got model_type 't5' · wanted bart | m2m_100 | marian"
        " | mbart (opus-mt is marian, NLLB is m2m_100) · choose a checkpoint of one of these"
    )


def test_other_activations_are_refused_with_the_list() -> None:
    with pytest.raises(ModelError, match=r"activation function · got quick_gelu · wanted gelu \| gelu_new \|"):
        from_hugging_face(theirs("bart", 0, activation_function="quick_gelu"))


def test_several_end_tokens_are_refused() -> None:
    with pytest.raises(ModelError, match=r"eos_token_id: one token is supported · got \[2, 3\]"):
        from_hugging_face(theirs("bart", 0, eos_token_id=[2, 3]))
