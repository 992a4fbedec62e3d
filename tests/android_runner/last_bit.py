"""What last bits do to a quantized model, as a measure for the distance between two processors.

Two processors add in different orders, so that their fp32 results differ in the last bits. Such a bit can move an
activation over the edge between two steps of its scale, and then the logits move by that step's share: of a sentence's
every step where the activation is the encoder's.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from tprune.export import description
from tprune.export.description import Bundle
from tprune.export.runtime import ENGINES
from tprune.model.search import Search

LAST = 16
"""Numbers by which a weight is moved. An edge is rarely near: by one number, ten sentences may cross none at all, and
as a measure for another ten that is nothing. By sixteen, two steps in three are beyond one; a defect moves each."""

SCALES = 64
"""A tensor of fewer elements, or one that is called so, may be a scale of quantized weights: no last bit of a sum."""


def forced(bundle: Bundle, source: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits (steps, N) of this processor at every step of a given translation, the step after its last one too."""
    engine = ENGINES[bundle.engine](bundle, 1)
    search, ids = Search(**bundle.search), np.array([source])
    state, found = engine.encode(ids, np.ones_like(ids)), []
    for token in [search.start, *tokens][: search.max_length(len(source))]:
        logits, state = engine.step(np.array([token]), state)
        found.append(logits[0])
    return np.stack(found)


def moved(bundle: Bundle, folder: Path, seed: int) -> Bundle:
    """A copy of an ONNX bundle in a new folder, every fp32 weight moved by `LAST` numbers, up or down."""
    shutil.copytree(bundle.path, folder)
    generator = np.random.default_rng(seed)
    for file in {graph.file for graph in bundle.graphs.values()}:
        model = onnx.load(folder / file)
        for weight in model.graph.initializer:
            if weight.data_type == TensorProto.FLOAT and "scale" not in weight.name:
                values = numpy_helper.to_array(weight)
                if values.size >= SCALES:
                    towards = np.where(generator.random(values.shape) < 0.5, np.inf, -np.inf).astype(np.float32)
                    beside = values
                    for _ in range(LAST):
                        beside = np.where(values == 0, values, np.nextafter(beside, towards))
                    weight.CopyFrom(numpy_helper.from_array(beside, weight.name))
        onnx.save(model, folder / file, save_as_external_data=True, location=f"{file}.data")
    return description.read(folder)
