"""Whether models and a corpus go together: one vocabulary, the same languages, no sentence longer than the positions.

A model computes with any ids, and those of another tokenizer mean nothing to it. Whatever is given both opens the
corpus here.
"""

from typing import Any

from tprune.artifact import Artifact
from tprune.errors import InputError
from tprune.model.checkpoint import read_config
from tprune.model.shape import TPruneConfig
from tprune.text import languages, lengths, vocab
from tprune.text.corpus import TOKENIZER, Corpus, open_corpus
from tprune.text.vocab import Tokenizer

AGAIN = (
    "make the corpus with `tprune corpus --tokenizer {model}`; after `tprune prune --vocabulary`, which writes "
    "OUT.trimmed, give OUT.trimmed/corpus, and OUT.trimmed/dense as the teacher"
)


def open_for(text: Artifact, *models: Artifact) -> Corpus:
    """Open a corpus for models that read it, the smaller one and its teacher for instance.

    Raises:
        InputError: Another tokenizer made it than a model's, another language is meant, a sentence is longer than a
            model's positions, or the models do not choose among the same tokens.
        ArtifactError: The corpus is missing or damaged.
        ModelError: A model has no configuration.
    """
    opened = open_corpus(text)
    configs = [TPruneConfig.from_dict(read_config(model.path)) for model in models]
    for model, config in zip(models, configs, strict=True):
        _require_words(text, opened.tokenizer, model, config)
        lengths.require_positions(text, config.max_positions)
    if len({config.output_size for config in configs}) > 1:
        raise InputError(
            "student and teacher do not choose among the same tokens",
            where=" and ".join(str(model.path) for model in models),
            got=" and ".join(f"{config.output_size} tokens" for config in configs),
            wanted="equally many",
            fix="after `tprune prune --vocabulary`, which writes OUT.trimmed, give OUT.trimmed/dense as the teacher",
        )
    return opened


def _require_words(text: Artifact, words: Tokenizer, model: Artifact, config: TPruneConfig) -> None:
    """The model's own vocabulary, special tokens and languages have made the corpus."""
    fix = AGAIN.format(model=model.path)
    if vocab.files(model.path) and _hashes(model) != _hashes(text, TOKENIZER):
        own = Tokenizer.load(model.path)
        if difference := _difference(words.backend, own.backend):
            raise InputError(
                f"the corpus was not tokenized for the model {model.path}",
                where=text.path,
                got=f"{words.vocabulary_size} tokens, {difference[0]}",
                wanted=f"the model's {own.vocabulary_size}, {difference[1]}",
                fix=fix,
            )
        _require_source(text, words, model, own)
    ids = {"padding": (words.pad_id, config.pad_token_id), "eos": (words.eos_id, config.eos_token_id)}
    problems = [f"{name} is token {one}, the model's {other}" for name, (one, other) in ids.items() if one != other]
    if words.vocabulary_size > config.vocab_size:
        problems.append(f"{words.vocabulary_size} tokens, the model knows {config.vocab_size}")
    if problems:
        raise InputError(
            f"the corpus was not tokenized for the model {model.path}", where=text.path, problems=problems, fix=fix
        )
    _require_target(text, words, model, config)


def _require_source(text: Artifact, words: Tokenizer, model: Artifact, own: Tokenizer) -> None:
    meant, known = (getattr(each.backend, "src_lang", None) for each in (words, own))
    if meant != known:
        raise InputError(
            f"the model {model.path} reads another language than the corpus is in",
            where=text.path,
            got=meant,
            wanted=known,
            fix="make the corpus with this text.source, or convert the model with other --languages SOURCE TARGET",
        )


def _require_target(text: Artifact, words: Tokenizer, model: Artifact, config: TPruneConfig) -> None:
    """A language token is what the decoder starts from or what it is made to say first."""
    named = {token: name for name, token in languages.codes(words.backend).items()}

    def language(start: int | None, forced: int | None) -> str | None:
        return next((named[token] for token in (forced, start) if token in named), None)

    meant = language(words.decoder_start_id, words.forced_first_id)
    chosen = language(config.decoder_start_token_id, config.forced_bos_token_id)
    if meant != chosen:
        raise InputError(
            f"the model {model.path} translates into another language than the corpus",
            where=text.path,
            got=meant,
            wanted=chosen or "the one that the model begins with, which it does not say",
            fix="make the corpus with this text.target, or convert the model with other --languages SOURCE TARGET"
            if chosen
            else "convert the model again with --languages SOURCE TARGET",
        )


def _hashes(made: Artifact, folder: str = "") -> dict[str, str]:
    """Of the tokenizer's files in an artifact, by their names."""
    known = {name: f"{folder}/{name}".lstrip("/") for name in vocab.files(made.path / folder)}
    files = made.manifest["files"]
    return {name: files[path]["sha256"] for name, path in known.items() if path in files}


def _difference(one: Any, other: Any) -> tuple[str, str] | None:
    """The first token in which two vocabularies differ, in words; Marian may have a vocabulary for each side."""
    sides = [(backend.get_vocab(), getattr(backend, "target_encoder", {})) for backend in (one, other)]
    for vocabularies in zip(*sides, strict=True):
        mine, theirs = ({token: piece for piece, token in ids.items()} for ids in vocabularies)
        apart = [token for token in mine.keys() | theirs.keys() if mine.get(token) != theirs.get(token)]
        if apart:
            token = min(apart)
            return f"number {token} is {mine.get(token)!r}", f"number {token} is {theirs.get(token)!r}"
    return None
