"""The floor counts what a translation reads and computes."""

import pytest

from tprune.benchmarks import floor
from tprune.benchmarks.floor import Machine, Work
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration


def test_weights_by_hand() -> None:
    sizes = {"d_model": 8, "heads": 2, "ffn": 5, "encoder_layers": 3, "decoder_layers": 2, "vocab_size": 11}
    found = floor.work(TPruneForConditionalGeneration(dense_config(**sizes)))
    attention, feed_forward = 4 * 8 * 8, 2 * 8 * 5
    # the cross-attentions' keys and values belong to the encoder's half
    assert found.weights_encoder == 3 * (attention + feed_forward) + 2 * (2 * 8 * 8)
    assert found.weights_step == 2 * (attention + 2 * 8 * 8 + feed_forward) + 8 * 11


def test_the_larger_bound_of_each_half_counts() -> None:
    work, machine = Work(weights_encoder=1000, weights_step=100), Machine(bytes_per_ms=400, operations_per_ms=500)
    found = work.floor_ms(machine, "fp32", source=10, target=3)
    assert found["read_ms"] == pytest.approx(10 + 3 * 1)
    assert found["compute_ms"] == pytest.approx(40 + 3 * 0.4)
    assert found["floor_ms"] == pytest.approx(40 + 3 * 1)
    assert work.floor_ms(machine, "int8", source=10, target=3)["read_ms"] == pytest.approx(13 / 4)


def test_a_machine_is_measured() -> None:
    found = floor.measure(1 << 20, threads=1)
    assert found.bytes_per_ms > 0
    assert found.operations_per_ms > 0
