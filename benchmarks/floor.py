"""The least time that a translation can take on this machine: what has to be read, and what has to be computed.

A decoding step reads every weight of the decoder and of the output projection once, and computes two operations for
each. Where the time of reading is larger, only fewer or smaller weights help.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch

from tprune.model.transformer import TPruneForConditionalGeneration

REPEATS = 15
BYTES = {"fp32": 4, "int8": 1}
LARGEST_MATRIX = 1024  # rows and columns of the product that shows the peak of arithmetic


@dataclass(frozen=True)
class Machine:
    """What was measured, with a number of threads."""

    bytes_per_ms: float
    """Read from memory, at the working set of one decoding step."""
    operations_per_ms: float
    """fp32, in a large matrix product."""


@dataclass(frozen=True)
class Work:
    """What a translation has to do, whatever computes it."""

    weights_encoder: int
    """Of the encoder and of the cross-attentions' keys and values: read once a sentence."""
    weights_step: int
    """Of the decoder and the output projection: read at every step."""

    def floor_ms(self, machine: Machine, precision: str, source: float, target: float) -> dict[str, float]:
        """Bounds by reading and by arithmetic of a sentence, and the larger one for each half of the work.

        Args:
            machine: What it runs on.
            precision: fp32 or int8; arithmetic is bounded by fp32's peak, which int8 can pass.
            source: Source tokens.
            target: Target tokens, eos included.
        """
        size = BYTES[precision]
        encode_read = self.weights_encoder * size / machine.bytes_per_ms
        encode_compute = 2 * self.weights_encoder * source / machine.operations_per_ms
        step_read = self.weights_step * size / machine.bytes_per_ms
        step_compute = 2 * self.weights_step / machine.operations_per_ms
        return {
            "read_ms": encode_read + target * step_read,
            "compute_ms": encode_compute + target * step_compute,
            "floor_ms": max(encode_read, encode_compute) + target * max(step_read, step_compute),
        }


def work(model: TPruneForConditionalGeneration) -> Work:
    """Count the weights of a model that each half of a translation reads; vectors are left out."""
    cross = sum(
        part.weight.numel()
        for layer in model.decoder.layers
        if layer.cross_attn is not None
        for part in (layer.cross_attn.k_proj, layer.cross_attn.v_proj)
    )
    encoder, decoder = (
        sum(parameter.numel() for parameter in stack.parameters() if parameter.dim() == 2)
        for stack in (model.encoder, model.decoder)
    )
    output = model.config.d_model * model.config.output_size
    return Work(encoder + cross, decoder - cross + output)


def measure(step_bytes: int, threads: int) -> Machine:
    """Measure reading at a working set of `step_bytes`, and the peak of fp32 arithmetic.

    It is the fastest that this process sees of several ways and of every number of threads up to `threads`: where
    waking a thread is expensive, two are slower than one.
    """
    before = torch.get_num_threads()
    matrix, vector = torch.rand(max(1, step_bytes // 4 // 512), 512), torch.rand(512)
    left = torch.rand(LARGEST_MATRIX, LARGEST_MATRIX)
    ways: tuple[Callable[[], object], ...] = (matrix.sum, lambda: matrix @ vector, matrix.numpy().max)
    reading, arithmetic = [], []
    try:
        for count in range(1, threads + 1):
            torch.set_num_threads(count)
            reading += [_fastest_ms(way) for way in ways]
            arithmetic.append(_fastest_ms(lambda: left @ left))
    finally:
        torch.set_num_threads(before)
    return Machine(
        bytes_per_ms=matrix.numel() * 4 / min(reading), operations_per_ms=2 * LARGEST_MATRIX**3 / min(arithmetic)
    )


def _fastest_ms(run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        run()
        times.append((perf_counter() - start) * 1000)
    return min(times)
