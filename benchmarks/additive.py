"""Whether latency is a sum over components on a real Arm device: the sum fitted to HAT's measured sub-Transformers.

HAT (Wang et al. 2020, MIT license) publishes 2000 random Transformers with their encoder's and decoder's milliseconds
on a Raspberry Pi 4 and on a Xeon: fp32, 30 tokens to 30, beam 5, two timed runs each. The sum has the form of
`tprune.benchmarks.table`: no cost may be negative, and each belongs to a component.

Run as `python -m tprune.benchmarks.additive FOLDER OUT.json`, with the folder of `wmt14ende_cpu_*.csv.xz`.
"""

import csv
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from tprune.entry import script
from tprune.errors import InputError
from tprune.json_file import write_json
from tprune.progress import tell
from tprune.provenance import made_by

DEVICES = ("raspberrypi", "xeon")
TRAIN_SHARE, SEED = 0.8, 0
DISTURBED = 3.0  # times the median encoder: ten times slower than all others, whatever its shape

Floats = NDArray[np.float64]


def fit(rows: Sequence[Mapping[str, float]], seed: int = SEED) -> dict[str, Any]:
    """Fit the sum to a part of the points and predict the others.

    Args:
        rows: Columns of HAT's files, as numbers.
        seed: Of the split.

    Returns:
        For `decoder`, `encoder` and `total`: points, R² and relative errors (median and 90th percentile, in percent) of
        the points that were not fitted, and ms by component at the points' means. `undisturbed` repeats encoder and
        total without the points whose encoder took `DISTURBED` times the median.
    """
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    encoder, decoder = columns["latency_mean_encoder"], columns["latency_mean_decoder"]
    whole = {**_encoder(columns), **{f"decoder {name}": part for name, part in _decoder(columns).items()}}
    calm = encoder < DISTURBED * np.median(encoder)
    everything = np.ones(len(rows), dtype=bool)
    return {
        "decoder": _judge(_decoder(columns), decoder, everything, seed),
        "encoder": _judge(_encoder(columns), encoder, everything, seed),
        "total": _judge(whole, encoder + decoder, everything, seed),
        "undisturbed": {
            "encoder": _judge(_encoder(columns), encoder, calm, seed),
            "total": _judge(whole, encoder + decoder, calm, seed),
        },
    }


def read(path: Path) -> list[dict[str, float]]:
    """Read one of HAT's files.

    Raises:
        InputError: It is not there.
    """
    if not path.is_file():
        raise InputError("no such file", where=path, fix="give the folder of HAT's latency data")
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _encoder(columns: Mapping[str, Floats]) -> dict[str, Floats]:
    d, layers = columns["encoder_embed_dim"], columns["encoder_layer_num"]
    return {
        "fixed": np.ones_like(d),
        "embedding": d,
        "layers": layers,
        "projections": layers * d,
        "ffn": layers * d * columns["encoder_ffn_embed_dim_avg"],
        "heads": layers * columns["encoder_self_attention_heads_avg"],
    }


def _decoder(columns: Mapping[str, Floats]) -> dict[str, Floats]:
    d, layers = columns["decoder_embed_dim"], columns["decoder_layer_num"]
    return {
        "fixed": np.ones_like(d),
        "output": d,  # every model has one vocabulary
        "layers": layers,
        "projections": layers * d,  # HAT's queries, keys and values are 512 wide in all models
        "ffn": layers * d * columns["decoder_ffn_embed_dim_avg"],
        "self heads": layers * columns["decoder_self_attention_heads_avg"],
        "cross heads": layers * columns["decoder_ende_attention_heads_avg"],
        "cross projections": layers * columns["encoder_embed_dim"],
        "attended layers": layers * columns["decoder_arbitrary_ende_attn_avg"],
    }


def _judge(parts: Mapping[str, Floats], ms: Floats, chosen: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    features, wanted = np.stack([part[chosen] for part in parts.values()], axis=1), ms[chosen]
    scale = features.max(axis=0)
    order = np.random.default_rng(seed).permutation(len(wanted))
    train, test = np.split(order, [int(TRAIN_SHARE * len(order))])
    weights, _ = nnls(features[train] / scale, wanted[train])
    predicted = features[test] / scale @ weights
    errors = np.abs(predicted / wanted[test] - 1) * 100
    spread = np.square(wanted[test] - wanted[test].mean()).sum()
    middle = (features / scale * weights).mean(axis=0)
    return {
        "train": len(train),
        "test": len(test),
        "r2": float(1 - np.square(predicted - wanted[test]).sum() / spread),
        "median_error_percent": float(np.median(errors)),
        "p90_error_percent": float(np.percentile(errors, 90)),
        "mean_ms": float(wanted.mean()),
        "mean_ms_by_part": {name: float(value) for name, value in zip(parts, middle, strict=True)},
    }


def _main(folder: Path, out: Path) -> None:
    found = {device: fit(read(folder / f"wmt14ende_cpu_{device}.csv.xz")) for device in DEVICES}
    write_json(out, {"data": "HAT latency dataset", "made_by": made_by(), "devices": found})
    for device, fits in found.items():
        calm = {f"{name} undisturbed": one for name, one in fits.pop("undisturbed").items()}
        for name, one in {**fits, **calm}.items():
            tell(f"{device} {name}: R² {one['r2']:.4f}, median error {one['median_error_percent']:.2f} %")


if __name__ == "__main__":
    script(_main)
