"""What the SHS penalty costs: time of a training step with it over a step without it, in turn.

Run as `python -m tprune.benchmarks.training_cost MODEL CORPUS OUT.json`.
"""

from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from tprune.benchmarks import record, stats
from tprune.entry import script
from tprune.json_file import write_json
from tprune.learn.batches import TokenBatches, inputs_and_labels
from tprune.learn.losses import cross_entropy
from tprune.learn.machine import attention_kernel, half, kept_memory
from tprune.model import checkpoint
from tprune.progress import tell
from tprune.provenance import made_by
from tprune.sparsity import lines
from tprune.sparsity.penalties import Decoupled
from tprune.text.corpus import open_corpus

ROUNDS, STEPS, WARMUP = 10, 4, 1  # rounds of STEPS plain and STEPS penalized steps
BATCH_TOKENS, LEARNING_RATE = 4096, 1e-4


def measure(model_dir: Path, corpus_dir: Path) -> dict[str, object]:
    """Time plain and penalized steps in turn: A B, B A, …

    Returns:
        The ratio of median step times with its 95 % interval, and the raw samples in ms.
    """
    model = checkpoint.load(model_dir).train()
    opened = open_corpus(corpus_dir)
    pairs = opened.split(opened.train)
    groups = lines.groups(model.config, lines.WIDTH_KINDS)
    shrink = Decoupled("shs", model, groups, {group.name: 1.0 for group in groups})
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98))
    # the same batches for both, so that a ratio compares equal work
    batches = [
        inputs_and_labels(pairs, batch, model) for batch in TokenBatches(pairs.lengths, BATCH_TOKENS, STEPS, seed=1)
    ]

    def step(inputs: dict[str, torch.Tensor], labels: torch.Tensor, penalized: bool) -> float:
        start = perf_counter()
        with attention_kernel(), torch.autocast(model.device.type, torch.bfloat16, enabled=half("auto")):
            loss = cross_entropy(model(**inputs, use_cache=False).logits, labels, 0.1)
        torch.autograd.backward(loss / (labels != -100).sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if penalized:
            shrink(LEARNING_RATE)
        optimizer.zero_grad()
        return (perf_counter() - start) * 1000

    samples: dict[bool, list[list[float]]] = {False: [], True: []}
    with kept_memory():
        for turn in range(WARMUP + ROUNDS):
            for penalized in (False, True) if turn % 2 else (True, False):
                times = [step(inputs, labels, penalized) for inputs, labels in batches]
                if turn >= WARMUP:
                    samples[penalized].append(times)
    plain, with_shs = np.asarray(samples[False]), np.asarray(samples[True])
    ratio = stats.speedup(with_shs, plain)
    return {
        "experiment": "SHS overhead per training step",
        "ratio": ratio.ratio,
        "ratio_lower": ratio.lower,
        "ratio_upper": ratio.upper,
        "precision": "bf16" if half("auto") else "fp32",
        "threads": torch.get_num_threads(),
        "batch_tokens": BATCH_TOKENS,
        "parameters": model.num_parameters(),
        "plain_ms": plain.round(2).tolist(),
        "shs_ms": with_shs.round(2).tolist(),
        "environment": record.environment().model_dump(),
        "made_by": made_by(),
    }


def _main(model: Path, corpus: Path, out: Path) -> None:
    found = measure(model, corpus)
    write_json(out, found)
    tell(f"SHS step / plain step: {found['ratio']:.3f} ({found['ratio_lower']:.3f} to {found['ratio_upper']:.3f})")


if __name__ == "__main__":
    script(_main)
