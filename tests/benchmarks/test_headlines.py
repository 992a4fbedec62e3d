"""Headlines: the fastest valid model whose loss is bounded, precision by precision."""

import pytest

from tests.benchmarks.rows import EMULATED, PHONE, pruned, row
from tprune.benchmarks.headlines import headlines, lost, pruning_share, sentence


def test_the_fastest_valid_model_within_each_limit_by_the_bound() -> None:
    rows = [
        row(),
        pruned(1.2, 0.4),  # their bounds are 0.6 above their losses
        pruned(1.1, -0.5),
        pruned(1.5, 0.9),
        pruned(1.6, 2.4),
        pruned(1.9, 7.4),
        pruned(2.5, 7.5),
        pruned(1.8, 0.3, valid={"ok": False, "reasons": ["hot"]}),
        pruned(1.7, 0.3, environment=EMULATED),
        pruned(9.0, 0.3, bleu_loss_upper_percent=None),
    ]
    (headline,) = headlines(rows)
    assert [(best.limit_percent, best.speedup) for best in headline.best] == [(1, 1.2), (3, 1.6), (8, 1.9)]
    assert [best.upper_percent for best in headline.best] == pytest.approx([1, 3, 8])
    assert [lost(best) for best in headline.best][:2] == [
        "0.4 % (≤ 1.0 %) BLEU loss",
        "2.4 % (≤ 3.0 %) BLEU loss",
    ]


def test_what_a_precision_brings_is_not_pruning_s() -> None:
    rows = [
        row(baseline=None, speedup=None),
        row(precision="int8", speedup=2.06, baseline="dense"),
        row(precision="int8", speedup=4.0, baseline="dense", threads=2),  # of another thread count
        pruned(2.72, 0.2, baseline="dense", model="4x"),
        pruned(6.23, 0.2, baseline="dense", model="4x", precision="int8"),
    ]
    fp32, int8 = headlines(rows)
    assert (fp32.precision, int8.precision) == ("fp32", "int8")
    assert {best.by_pruning for best in fp32.best} == {2.72}
    assert {best.by_pruning for best in int8.best} == {6.23 / 2.06}
    assert [pruning_share(one.best[0]) for one in (fp32, int8)] == ["", "3.02x against the dense model in int8"]
    assert sentence(fp32) == (
        "On host (x86): Xeon 8370C, pruned models in fp32 translate multi30k-ende test.2016 up to 2.72x as fast at "
        "≤ 1 % relative BLEU loss (95 % bound), against the dense model in fp32."
    )
    assert sentence(int8) == (
        "On host (x86): Xeon 8370C, pruned models in int8 translate multi30k-ende test.2016 up to 6.23x as fast at "
        "≤ 1 % relative BLEU loss (95 % bound), against the dense model in fp32; by pruning alone, against the dense "
        "model in int8, 3.02x."
    )


def test_without_the_dense_model_in_that_precision_nothing_is_said_of_pruning_alone() -> None:
    (headline,) = headlines([pruned(6.0, 0.2, precision="int8", baseline="dense")])
    assert headline.best[0].by_pruning is None
    assert "by pruning alone" not in sentence(headline)


def test_a_device_s_baseline_is_in_the_same_precision() -> None:
    rows = [
        row(precision="int8", baseline=None, speedup=None),
        pruned(2.0, 0.2, precision="int8", baseline="dense int8"),
    ]
    (headline,) = headlines(rows)
    assert headline.baseline == "the dense model in int8"
    assert headline.best[0].by_pruning == headline.best[0].speedup == 2.0


def test_seeds_are_averaged_before_the_best_is_chosen() -> None:
    rows = [
        pruned(2.0, 0.0, model="lucky", seed=1),
        pruned(1.4, 3.0, model="lucky", seed=2),
        pruned(1.5, 0.3, model="steady", seed=1),
        pruned(1.6, 0.3, model="steady", seed=2),
    ]
    (headline,) = headlines(rows)
    assert [(best.limit_percent, best.row.model, best.seeds) for best in headline.best] == [
        (1, "steady", 2),
        (3, "lucky", 2),
        (8, "lucky", 2),
    ]
    assert headline.best[1].speedup == (2.0 + 1.4) / 2
    assert headline.best[1].loss_percent == (0.0 + 3.0) / 2
    assert headline.best[1].upper_percent == (0.6 + 3.6) / 2


def test_phones_and_hosts_never_share_a_headline() -> None:
    found = headlines([pruned(3.0, 0.2), pruned(1.3, 0.2, environment=PHONE)])
    assert [(headline.environment.kind, headline.best[0].speedup) for headline in found] == [
        ("phone", 1.3),
        ("host-x86", 3.0),
    ]


def test_devices_of_one_model_processors_and_runtimes_are_told_apart() -> None:
    places = [{"device": "adb:A", "pin": "big"}, {"device": "adb:A", "pin": "little"}, {"device": "adb:B"}, {}]
    rows = [pruned(1.0 + index, 0.2, model="half", environment=PHONE, **place) for index, place in enumerate(places)]
    (headline,) = headlines(rows)
    assert [(best.speedup, best.seeds) for best in headline.best] == [(4.0, 1)] * 3


def test_sentences_of_several_limits_and_of_none() -> None:
    none, two = headlines(
        [pruned(1.4, 2.0), pruned(1.9, 7.0), pruned(2.0, 9.0, environment={"kind": "sbc", "cpu": "Pi 4"})]
    )
    assert sentence(two) == (
        "On host (x86): Xeon 8370C, pruned models in fp32 translate multi30k-ende test.2016 up to 1.40x as fast at "
        "≤ 3 % and 1.90x as fast at ≤ 8 % relative BLEU loss (95 % bound), against dense onnxruntime fp32, 1 thread."
    )
    assert sentence(none) == (
        "No valid pruned model in fp32 of multi30k-ende test.2016 on single-board computer: Pi 4 stays within 8 % of "
        "BLEU loss (95 % bound)."
    )
