"""A teacher's distributions, computed once and kept: the most likely tokens behind every prefix of every target.

A teacher that stays as it is says the same in every pass over the text, so that asking it again in each step is work
for nothing. What it gives all other tokens together is spread evenly over them, which is close to what a teacher
trained with label smoothing does.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tprune.json_file import read_json, write_json
from tprune.learn.batches import Pairs, Parallel, collate, cut, inputs_and_labels
from tprune.model.transformer import TPruneForConditionalGeneration

COLUMNS = ("teacher_ids", "teacher_probabilities")
IDS, PROBABILITIES, DONE = "soft.ids.npy", "soft.probabilities.npy", "soft.json"
BETWEEN_SAVES = 64  # batches that a kill costs at most
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class SoftTargets:
    """Of all targets in the corpus' order, one behind the other.

    Attributes:
        starts: (n + 1,) the row where each target begins.
        ids: (target tokens, k) the most likely tokens, the likeliest first.
        probabilities: (target tokens, k) what the teacher gives them.
    """

    starts: NDArray[np.int64]
    ids: NDArray[np.uint32]
    probabilities: NDArray[np.float16]

    def of(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.float16]]:
        """Ids and probabilities (T, k) of one target, eos included."""
        rows = slice(self.starts[index], self.starts[index + 1])
        return self.ids[rows], self.probabilities[rows]


class SoftPairs(Pairs):
    """Parallel ids with the teacher's distributions as a torch dataset."""

    def __init__(self, pairs: Parallel, soft: SoftTargets) -> None:
        super().__init__(pairs)
        self.soft = soft

    def __getitem__(self, index: int) -> Any:
        return *self.pairs[index], *self.soft.of(index)


def collate_soft(rows: Sequence[Any], *, pad_id: int, start_id: int) -> dict[str, Tensor]:
    """Pad a batch of `SoftPairs`: as `batches.collate`, and teacher_ids and teacher_probabilities (B, T, k)."""
    batch = collate([row[:2] for row in rows], pad_id=pad_id, start_id=start_id)
    count, width = rows[0][2].shape[-1], batch["labels"].shape[1]
    for place, (name, kind) in enumerate(zip(COLUMNS, (torch.long, torch.float), strict=True), start=2):
        batch[name] = torch.zeros(len(rows), width, count, dtype=kind)
        for index, row in enumerate(rows):
            batch[name][index, : len(row[place])] = torch.from_numpy(row[place].astype(np.float64))
    return batch


def dense(ids: Tensor, probabilities: Tensor, size: int) -> Tensor:
    """The whole distribution (..., N): what is left of 1 is spread evenly over the tokens that are not in `ids`.

    Args:
        ids: (..., k).
        probabilities: (..., k), summing up to at most 1.
        size: N.
    """
    left = (1 - probabilities.sum(dim=-1, keepdim=True)).clamp(min=0) / max(1, size - ids.shape[-1])
    return left.expand(*ids.shape[:-1], size).scatter(-1, ids, probabilities)


@torch.no_grad()
def prepare(
    folder: Path,
    teacher: TPruneForConditionalGeneration,
    pairs: Parallel,
    count: int,
    temperature: float,
    batch_tokens: int,
    tell: Callable[[str], None],
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Ask the teacher, and write what it says; go on where a kill left `folder`.

    Args:
        folder: Where the files are kept.
        teacher: In eval mode.
        pairs: Sources and targets.
        count: k, at most the size of the vocabulary.
        temperature: Divides the teacher's logits.
        batch_tokens: Padded tokens of one batch, as in training.
        tell: Gets the progress in words.
        precision: Opens the context in which the teacher computes.

    Raises:
        OSError: The disk is full.
    """
    starts, batches = _starts(pairs), _batches(pairs, batch_tokens)
    kept, done = min(count, teacher.config.output_size), _done(folder)
    ids, probabilities = (
        _mapped(folder / name, (int(starts[-1]), kept), kind, new=not done)
        for name, kind in ((IDS, np.uint32), (PROBABILITIES, np.float16))
    )
    for number, batch in enumerate(batches[done:], start=done + 1):
        inputs, labels = inputs_and_labels(pairs, batch, teacher)
        with precision():
            logits = teacher(**inputs, use_cache=False).logits
        likely, which = torch.softmax(logits[labels != -100].float() / temperature, dim=-1).topk(kept, dim=-1)
        place = np.concatenate([np.arange(starts[index], starts[index + 1]) for index in batch])
        ids[place], probabilities[place] = which.cpu().numpy(), likely.cpu().numpy()
        if number % BETWEEN_SAVES == 0 or number == len(batches):
            ids.flush()
            probabilities.flush()
            write_json(folder / DONE, {"batches": number, "whole": number == len(batches)})
        tell(f"{number:,} of {len(batches):,} batches")


def read(folder: Path, pairs: Parallel) -> SoftTargets:
    """What `prepare` wrote, mapped into memory; waits while another process is still writing."""
    while not _said(folder).get("whole"):
        sleep(PAUSE_SECONDS)
    return SoftTargets(
        _starts(pairs), *(np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (IDS, PROBABILITIES))
    )


def _starts(pairs: Parallel) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(pairs.lengths)[:, 1], dtype=np.int64)])


def _batches(pairs: Parallel, batch_tokens: int) -> list[list[int]]:
    lengths = np.asarray(pairs.lengths)
    return cut(np.lexsort(lengths.T)[::-1], lengths.max(axis=1), batch_tokens)  # longest first: memory runs out at once


def _mapped(path: Path, shape: tuple[int, int], kind: type, *, new: bool) -> Any:
    """An array in a file; a new one has its room on the disk at once, for a full disk kills who writes into a hole."""
    if new:
        with path.open("wb") as file:
            header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(file, header)
            file.flush()
            size = shape[0] * shape[1] * np.dtype(kind).itemsize
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, file.tell() + size)
            else:
                file.truncate(file.tell() + size)
    return np.load(path, mmap_mode="r+", allow_pickle=False)


def _done(folder: Path) -> int:
    return int(_said(folder).get("batches", 0))


def _said(folder: Path) -> dict[str, Any]:
    return read_json(folder / DONE) if (folder / DONE).exists() else {}
