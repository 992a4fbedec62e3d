"""Batches of similar length that hold a fixed number of tokens.

One endless, seeded stream: pass after pass over the corpus, each newly shuffled. A process of a
distributed run takes every W-th batch, so W processes see what one process with W accumulated
batches sees.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tprune.model.transformer import TPruneForConditionalGeneration

POOL = 100  # batches whose sentences are sorted together by length


class Parallel(Protocol):
    """Sentence pairs as token ids, each side with its end-of-sentence token."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(n, 2) source and target lengths."""
        ...

    def __len__(self) -> int:
        """Number of pairs."""
        ...

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Source and target ids of one pair."""
        ...


class Pairs(Dataset[tuple[NDArray[Any], NDArray[Any]]]):
    """Parallel ids as a torch dataset."""

    def __init__(self, pairs: Parallel) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.pairs[index]


class TokenBatches(Sampler[list[int]]):
    """Exactly `count` batches of at most `batch_tokens` padded tokens on the longer side.

    Args:
        lengths: (n, 2) source and target lengths.
        batch_tokens: Sentences times longest sentence of a batch; one sentence always fits.
        count: Length of the stream.
        seed: Order of sentences and batches.
    """

    batch_size = None  # accelerate asks: batches have no fixed number of sentences
    drop_last = False

    def __init__(self, lengths: NDArray[np.int32], batch_tokens: int, count: int, seed: int) -> None:
        self.longest = np.asarray(lengths).max(axis=1)
        self.order_within = np.asarray(lengths)
        self.batch_tokens, self.count, self.seed = batch_tokens, count, seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        given, epoch = 0, 0
        while given < self.count:
            for batch in self._epoch(np.random.default_rng([self.seed, epoch])):
                if given == self.count:
                    return
                yield batch
                given += 1
            epoch += 1

    def _epoch(self, rng: np.random.Generator) -> list[list[int]]:
        order = rng.permutation(len(self.longest))
        pool = max(1, POOL * self.batch_tokens // max(1, int(self.longest.mean())))
        batches: list[list[int]] = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            batches += cut(part[np.lexsort(self.order_within[part].T)], self.longest, self.batch_tokens)
        rng.shuffle(batches)
        return batches


def cut(order: NDArray[np.int64], longest: NDArray[np.int32], batch_tokens: int) -> list[list[int]]:
    """Cut sentences in this order into batches of at most `batch_tokens` padded tokens."""
    batches: list[list[int]] = [[]]
    widest = 0
    for index in order.tolist():
        widest = max(widest, int(longest[index]))
        if batches[-1] and widest * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
            widest = int(longest[index])
        batches[-1].append(index)
    return batches


def collate(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], *, pad_id: int, start_id: int) -> dict[str, Tensor]:
    """Pad a batch of pairs.

    Returns:
        input_ids and attention_mask (B, S); decoder_input_ids (B, T), the target shifted right behind
        the start token; labels (B, T) with -100 for padding.
    """
    sources, targets = zip(*pairs, strict=True)
    source, mask = padded(sources, pad_id)
    target, target_mask = padded(targets, pad_id)
    shifted = torch.cat([torch.full_like(target[:, :1], start_id), target[:, :-1]], dim=1)
    labels = target.masked_fill(target_mask == 0, -100)
    return {"input_ids": source, "attention_mask": mask, "decoder_input_ids": shifted, "labels": labels}


def inputs_and_labels(
    pairs: Parallel, indices: Sequence[int], model: TPruneForConditionalGeneration
) -> tuple[dict[str, Tensor], Tensor]:
    """These pairs as a model's inputs, on its device, and its labels (B, T): see `collate`."""
    config = model.config
    batch = collate(
        [pairs[index] for index in indices], pad_id=config.pad_token_id, start_id=config.decoder_start_token_id
    )
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    labels = batch.pop("labels")
    return batch, labels


def padded(sequences: Sequence[Sequence[int] | NDArray[Any]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Right-pad to (B, longest): ids and mask (1 = token)."""
    width = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(np.asarray(sequence, dtype=np.int64))
        mask[row, : len(sequence)] = 1
    return ids, mask
