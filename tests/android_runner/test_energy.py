"""Energy of a sentence, by hand, and that nothing is told where one look is missing."""

from typing import Any

import pytest

from tests.android_runner.test_journal import LOAD, START, sentence, written
from tests.android_runner.test_probe_text import SUPPLIES, supplies
from tprune.android_runner import energy, journal
from tprune.android_runner.journal import Journal
from tprune.benchmarks.record import Environment, Row, Verdict
from tprune.benchmarks.result_table import rows_to_markdown


def state(second: float, milliamperes: int, **changes: str) -> dict[str, Any]:
    """A look at a battery of 4 V."""
    said = supplies(SUPPLIES) | {"battery/current_now": str(1000 * milliamperes), "battery/voltage_now": "4000000"}
    readings = dict.fromkeys(("frequency_khz", "temperature_mc", "resident_bytes", "peak_resident_bytes"))
    return {"kind": "state", "at_ns": round(second * 1e9), **readings, "power_supply": said | changes}


def run(*states: dict[str, Any], sentences: int = 5) -> Journal:
    first, begin, *later = states
    translated = [sentence(index, 1, 1) for index in range(sentences)]
    warm = sentence(0, 1, 1, timed=False)
    found = journal.parse(written(START, first, LOAD, warm, begin, *translated, *later))
    assert found.complete
    return found


LOOKS = (state(0, 9000), state(10, 8000), state(11, -500), state(12, -250), state(14, -1000))


def test_energy_by_hand() -> None:
    found = energy.fields([run(*LOOKS), run(*LOOKS[:3], sentences=3)])["energy"]
    # what was looked at before the timed part began is not of it; 2 W for 1 s, 1 W for 1 s, 4 W for 2 s; 2 W for 1 s
    assert found["joules_per_sentence"] == pytest.approx((2 + 1 + 8 + 2) / (5 + 3))
    assert found["watts"] == pytest.approx(13 / 5)
    assert found["samples"] == 4


@pytest.mark.parametrize("place", [1, 2, 4])
@pytest.mark.parametrize("changes", [{"battery/status": "Charging"}, {"usb/online": "1"}, {"battery/voltage_now": ""}])
def test_one_look_that_does_not_tell_it_is_enough(place: int, changes: dict[str, str]) -> None:
    looks = list(LOOKS)
    looks[place] = state(looks[place]["at_ns"] / 1e9, -500, **changes)
    assert energy.fields([run(*LOOKS), run(*looks)]) == {}


def test_what_a_runner_without_a_battery_wrote() -> None:
    assert energy.fields([]) == {}
    assert energy.fields([run(*LOOKS[:2])]) == {}  # no time between looks
    unknown = [{**look, "power_supply": None} for look in LOOKS]
    assert energy.fields([run(*unknown)]) == {}
    older = [{key: value for key, value in look.items() if key != "power_supply"} for look in LOOKS]
    assert energy.fields([run(*older)]) == {}


def test_a_table_has_the_column_only_where_something_is_known() -> None:
    given: dict[str, Any] = {
        "experiment": "e", "dataset": "d", "split": "test", "model": "dense", "engine": "onnxruntime",
        "precision": "fp32", "threads": 1, "decode": "greedy", "made_by": {}, "valid": Verdict(ok=True),
        "environment": Environment(kind="phone", cpu="Tensor"),
    }  # fmt: skip
    known = Row(**given, **energy.fields([run(*LOOKS)]))
    assert "2.2 J (3 samples) |" in rows_to_markdown([known, Row(**given)])
    assert "Energy" not in rows_to_markdown([Row(**given)])
