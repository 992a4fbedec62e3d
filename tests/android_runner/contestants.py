"""A corpus, bundles of random models for it, and how they are measured quickly."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tprune import artifact, stages
from tprune.android_runner.links import Local
from tprune.android_runner.measurement import Key, measure
from tprune.android_runner.session import Session
from tprune.android_runner.transport import Device
from tprune.artifact import Artifact
from tprune.benchmarks import record
from tprune.config import Text
from tprune.delivery_config import Bench, DeviceBench, Export
from tprune.export.bundle import export
from tprune.model import checkpoint
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text.corpus import Corpus, open_corpus
from tprune.text.vocab import Tokenizer

QUICK = DeviceBench(sentences=5, warmup=2, runs=10, seconds=0.0, cold_starts=3, patience_seconds=20)
BENCH = Bench(bootstrap=20)
SIZES = {"dense": 32, "small": 8}
LONGEST = 64


@dataclass(frozen=True)
class Given:
    """A corpus and the bundles of two random models for it."""

    text: Artifact
    corpus: Corpus
    bundles: Mapping[str, Artifact]

    @property
    def entries(self) -> dict[Key, Artifact]:
        return {("onnxruntime", "fp32", name): made for name, made in self.bundles.items()}


def make(root: Path) -> Given:
    settings = Text(kind="synthetic", sentences=400, vocabulary=400, max_tokens=48)
    text = stages.corpus(root / "corpus", settings).make(False)
    corpus = open_corpus(text)
    bundles = {name: bundle_of(root / name, corpus.tokenizer, ffn) for name, ffn in SIZES.items()}
    return Given(text, corpus, bundles)


def bundle_of(folder: Path, tokens: Tokenizer, ffn: int) -> Artifact:
    """A random model for a tokenizer in `folder`, and its bundle beside it."""
    torch.manual_seed(ffn)
    model = TPruneForConditionalGeneration(
        dense_config(
            vocab_size=tokens.vocabulary_size, pad_token_id=tokens.pad_id, eos_token_id=tokens.eos_id,
            decoder_start_token_id=tokens.decoder_start_id, d_model=16, heads=2, ffn=ffn, encoder_layers=1,
            decoder_layers=1, max_positions=LONGEST,
        )
    ).eval()  # fmt: skip
    with artifact.create(folder, "model", config={}) as partial:
        checkpoint.save(model, partial)
        tokens.save(partial)
    limits = Export(max_source=LONGEST, max_target=LONGEST, parity_sentences=2)
    return export(folder, folder.with_name(f"{folder.name}-bundle"), "onnxruntime", limits)


def open_session(folder: Path, device: Device | None = None, settings: DeviceBench = QUICK) -> Session:
    done = folder / "done"
    done.mkdir(exist_ok=True)
    return Session(device or Device(Local(str(folder / "device"))), settings, done, lambda _: None)


def rows_of(given: Given, opened: Session) -> list[record.Row]:
    return list(measure("test", "synthetic", opened, given.entries, given.corpus, "de", BENCH))
