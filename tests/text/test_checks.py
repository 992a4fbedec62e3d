"""What is found wrong with pairs, by hand."""

from typing import Any

import numpy as np
import pytest

from tprune.errors import InputError
from tprune.text import checks
from tprune.text.sources import Segments

PAIRS = [
    ("one", "eins"),
    ("", "zwei"),  # 2 empty
    ("Berlin", "Berlin"),  # 3 identical
    ("one", "eins"),  # 4 duplicate
    ("one", "ein"),
    ("four", "vier"),  # 6 source held out
    ("for", "fünf"),  # 7 target held out
    ("", ""),  # 8 empty before identical
    ("Four", "Vier"),
    ("Berlin", "Berlin"),  # 10 identical before duplicate
]
SPLIT = Segments([pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS], [9])
HELD_OUT = [Segments(["four"], ["fear"]), Segments(["five"], ["fünf"])]
FOUND = {"empty": [2, 8], "identical": [3, 10], "duplicate": [4], "held_out": [6, 7]}


def test_each_kind_is_found_once_by_its_line() -> None:
    assert checks.pairs(SPLIT, HELD_OUT) == FOUND
    assert checks.kept(SPLIT, FOUND) == [1, 5, 9]
    assert checks.pairs(SPLIT)["held_out"] == []


def test_too_long_counts_either_side() -> None:
    lengths = np.array([[4, 4], [5, 2], [2, 5], [1, 1]], dtype=np.int32)
    assert checks.too_long(lengths, [1, 5, 9, 12], 4) == [5, 9]
    assert checks.too_long(lengths, [1, 5, 9, 12], 5) == []


def test_refusal_names_counts_and_lines() -> None:
    checks.refuse("train", {"empty": [], "duplicate": []}, "nothing")
    with pytest.raises(InputError) as refused:
        checks.refuse("train", {"empty": [2, 8], "identical": [], "duplicate": [4, 5, 6, 7, 8, 9]}, "correct it")
    assert str(refused.value) == (
        "train: pairs that cannot be trained on · a side is empty: 2 (lines 2, 8); "
        "pair occurred before: 6 (lines 4, 5, 6, 7, 8 …) · correct it"
    )


def test_report() -> None:
    lengths = np.array([[3, 4], [4, 9], [5, 5]], dtype=np.int32)
    assert checks.report(SPLIT, {**FOUND, "too_long": []}, lengths, dropped=True) == {
        "read": 10,
        "kept": 3,
        "dropped": True,
        "problems": {
            "empty": {"what": "a side is empty", "count": 2, "first_lines": [2, 8]},
            "identical": {"what": "source and target are the same", "count": 2, "first_lines": [3, 10]},
            "duplicate": {"what": "pair occurred before", "count": 1, "first_lines": [4]},
            "held_out": {
                "what": "source or target stands in a validation or test split",
                "count": 2,
                "first_lines": [6, 7],
            },
            "stripped": {
                "what": "surrounding whitespace or inner line break taken off",
                "count": 1,
                "first_lines": [9],
            },
        },
        "tokens": {"source": {"mean": 4.0, "longest": 5}, "target": {"mean": 6.0, "longest": 9}},
    }


def test_what_became_of_a_split_in_a_line() -> None:
    part: dict[str, Any] = {"read": 20, "kept": 12, "dropped": True, "problems": {}}
    part["problems"] = {"empty": {"what": "a side is empty", "count": 8, "first_lines": [1, 2, 3, 4, 5]}}
    assert checks.told("t", part) == "t: 12 of 20 pairs kept; a side is empty: 8 (lines 1, 2, 3, 4, 5 …)"
    assert checks.told("t", part | {"dropped": False}) is None
