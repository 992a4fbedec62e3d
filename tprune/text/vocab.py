"""From text to token ids and back: a vocabulary of our own, or the one a checkpoint brought.

Our own is Unigram or BPE over both languages together. What its alphabet lacks is spelled in bytes,
so no text is lost (but the sign U+2581, which stands for a space). Ids: 0 `<pad>`, which also starts
the decoder as in Marian, 1 `</s>`, 2 `<unk>`, then 256 bytes, then the pieces.
"""

import io
import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Literal

from tprune.errors import InputError
from tprune.text import languages

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
FIXED = (PAD, EOS, UNK, *BYTES)
COVERAGE = 0.9995  # of the text's signs get a piece, as in SentencePiece, where all would take a quarter of the pieces
CHUNK = 10_000  # sentences encoded at a time

Side = Literal["source", "target"]


class Tokenizer:
    """A Hugging Face tokenizer with two sides.

    Args:
        backend: Tokenizer of transformers whose languages, if it has any, are set.

    Attributes:
        pad_id: Padding.
        eos_id: End of a sentence.
        decoder_start_id: What the decoder is fed before the first target token.
        forced_first_id: Token every target begins with (a language in NLLB, `<s>` in BART); None
            where targets begin with their text.
        vocabulary_size: Number of ids.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        sample: list[int] = backend(text_target=["a"])["input_ids"][0]
        if backend.pad_token_id is None or backend.eos_token_id not in sample:
            raise InputError(
                "not the tokenizer of a translation model",
                where=backend.name_or_path or None,
                got=f"pad {backend.pad_token}, eos {backend.eos_token}, a sentence {sample}",
                wanted="padding, and every sentence closed by the end of sentence",
                fix="give the folder of a translation model",
            )
        self.pad_id = int(backend.pad_token_id)
        self.eos_id = int(backend.eos_token_id)
        self._hidden = {*backend.all_special_ids, *languages.codes(backend).values()}
        self.vocabulary_size = 1 + max(len(backend) - 1, *self._hidden)  # M2M100 does not count its languages
        self.forced_first_id = sample[0] if sample[0] in self._hidden else None
        if sample[-1] != self.eos_id:
            self.decoder_start_id = sample[-1]  # mBART writes the language behind </s>
        elif self.forced_first_id is not None:
            self.decoder_start_id = self.eos_id  # BART, mBART-50, M2M100, NLLB
        else:
            self.decoder_start_id = self.pad_id  # Marian, our own

    @property
    def special_ids(self) -> frozenset[int]:
        """Padding, ends, unknown, languages: what never stands in a decoded sentence."""
        return frozenset(map(int, self._hidden))

    def encode(self, sentences: Sequence[str], *, side: Side = "source") -> list[list[int]]:
        """Token ids of each sentence; targets always end in `eos_id`."""
        name = "text" if side == "source" else "text_target"
        ids: list[list[int]] = []
        for start in range(0, len(sentences), CHUNK):
            ids += self.backend(**{name: list(sentences[start : start + CHUNK])}, verbose=False)["input_ids"]
        if side == "target":
            for row in ids:
                while row[-1] != self.eos_id:
                    row.pop()
        return ids

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Text of each sequence of target ids, without special tokens."""
        return [
            self.backend.decode(
                [token for token in map(int, row) if token not in self._hidden], clean_up_tokenization_spaces=False
            ).strip()
            for row in ids
        ]

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, as `AutoTokenizer.from_pretrained` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save_pretrained(folder)

    @classmethod
    def load(cls, path: Path, *, source: str | None = None, target: str | None = None) -> "Tokenizer":
        """Read our own tokenizer, or that of a Hugging Face model; no code of the model's is run.

        Args:
            path: Folder with a tokenizer, or a `tokenizer.json`.
            source: Language of the source, for the multilingual families (`en`, `eng_Latn`, `en_XX`);
                None keeps what the tokenizer was saved with.
            target: Language of the target.

        Raises:
            InputError: No tokenizer there, damaged, it does not know the language, or translates the other way.
        """
        from transformers import AutoTokenizer

        folder = path.parent if path.name == "tokenizer.json" else path
        if not folder.is_dir():
            raise InputError("no such tokenizer", where=path, wanted="a folder with a tokenizer", fix="check the path")
        if not files(folder):
            fix = "give a model's folder, or CORPUS/tokenizer"
            raise InputError("no tokenizer here", where=path, wanted="tokenizer.json or a family's own files", fix=fix)
        try:
            backend = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            if hasattr(backend, "src_lang"):
                chosen = {
                    "src_lang": languages.code(backend, source or backend.src_lang, path),
                    "tgt_lang": languages.code(backend, target or backend.tgt_lang, path),
                }
                backend = AutoTokenizer.from_pretrained(
                    folder, trust_remote_code=False, local_files_only=True, **chosen
                )
            languages.require_direction(backend, source, target, path)
        except InputError:
            raise
        except Exception as error:  # every family raises something else
            raise InputError(
                "cannot read the tokenizer",
                where=path,
                got=error,
                fix="give a folder with tokenizer.json, or the folder of a Hugging Face model",
            ) from None
        return cls(backend)


def train(sentences: Iterable[str], *, kind: Literal["unigram", "bpe"], vocabulary: int) -> Tokenizer:
    """Learn a vocabulary shared by both languages; the same text always gives the same one.

    Args:
        sentences: Source and target sentences.
        kind: Unigram language model or byte pair encoding.
        vocabulary: Number of ids, the 259 fixed ones included; a small text may fill fewer.

    Raises:
        InputError: The alphabet does not fit.
    """
    from tokenizers import AddedToken, decoders, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    text = [unicodedata.normalize("NFC", sentence) for sentence in sentences]
    counts = Counter(chain.from_iterable(text))
    room = vocabulary - len(FIXED)
    if room < 2 * min(len(counts), 128):
        raise InputError(
            "vocabulary too small for the text",
            where="text.vocabulary",
            got=vocabulary,
            wanted=f"at least {len(FIXED) + 2 * min(len(counts), 128)}",
            fix="set text.vocabulary higher: 259 ids are special tokens and bytes",
        )
    bytewise = str.maketrans(dict.fromkeys(_rare(counts, room), " "))
    model = TRAINERS[kind]([sentence.translate(bytewise) for sentence in text] if bytewise else text, room)
    model.normalizer = normalizers.NFC()
    model.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    model.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, FIXED.index(EOS))])
    model.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, EOS, UNK)])
    return Tokenizer(
        PreTrainedTokenizerFast(
            tokenizer_object=model,
            pad_token=PAD,
            eos_token=EOS,
            unk_token=UNK,
            split_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
    )


def files(folder: Path) -> list[str]:
    """Names of the files in a folder that make up a tokenizer."""
    return sorted({file.name for pattern in FILES for file in folder.glob(pattern) if file.is_file()})


def copy_files(source: Path, target: Path) -> list[str]:
    """Copy a tokenizer's files as they are; gives their names."""
    names = files(source)
    for name in names:
        shutil.copyfile(source / name, target / name)
    return names


def _rare(counts: Counter[str], room: int) -> list[str]:
    """Signs that get no piece but are spelled in bytes; none of an alphabet that is small beside `room` pieces."""
    if len(counts) <= room // 4:
        return []
    signs, numbers = zip(*counts.most_common(), strict=True)
    covered = sum(total < COVERAGE * counts.total() for total in accumulate(numbers)) + 1
    return list(signs[min(covered, room // 2) :])


def _unigram(text: Sequence[str], room: int) -> Any:
    """Train with SentencePiece: the trainer in `tokenizers` gives other scores on every run."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=written,
        model_type="unigram",
        vocab_size=room + len(FIXED),
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece=PAD,
        eos_piece=EOS,
        unk_piece=UNK,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        max_sentence_length=1 << 20,
        num_threads=2,
        minloglevel=2,
    )
    learned = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    model = Tokenizer(
        models.Unigram(
            [(piece.piece, piece.score) for piece in learned.pieces], unk_id=FIXED.index(UNK), byte_fallback=True
        )
    )
    # the fixed pieces begin with <: as < stands by itself, no text can spell one of them
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex("<"), "isolated")]
    )
    return model


def _bpe(text: Sequence[str], room: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")])
    trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=["▁"], show_progress=False)
    model.train_from_iterator(text, trainer)
    learned = json.loads(model.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    vocabulary = {piece: index for index, piece in enumerate((*FIXED, *pieces))}
    merges = [tuple(merge) for merge in learned["merges"]]
    model.model = models.BPE(vocab=vocabulary, merges=merges, unk_token=UNK, byte_fallback=True)
    return model


TRAINERS: dict[str, Callable[[Sequence[str], int], Any]] = {"unigram": _unigram, "bpe": _bpe}

FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "target_vocab.json", "vocab.txt", "merges.txt", "*.spm", "*.model"),
)
