"""Reading journals, whole, cut off and mutilated."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.artifacts import error_of
from tprune.android_runner import journal

START = {"kind": "start", "schema": 1, "mode": "whole", "threads": 1, "cpus": [0], "sentences": 2}
LOAD = {"kind": "load", "engine": "onnxruntime", "engine_version": "1.31.1", "load_ns": 5}


def sentence(index: int, total: int, library: int, timed: bool = True) -> dict[str, Any]:
    times = {"total_ns": total, "library_ns": library, "encode_ns": None, "first_token_ns": None}
    return {"kind": "sentence", "index": index, "timed": timed, **times, "tokens": [4, 5]}


def written(*entries: dict[str, Any], lines: int | None = None) -> bytes:
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    count = len(entries) if lines is None else lines
    end = {"kind": "end", "lines": count, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return f"{text}{json.dumps(end)}\n".encode()


WHOLE = written(START, LOAD, sentence(0, 110, 100), sentence(1, 95, 90, timed=False), sentence(1, 330, 300))


def test_a_whole_journal() -> None:
    found = journal.finished(WHOLE, "here")
    assert found.complete
    assert [one.index for one in found.timed] == [0, 1]
    assert found.overhead == pytest.approx((440 - 400) / 400)
    assert found.peak_bytes is None


def test_a_journal_that_was_cut_anywhere_is_read_up_to_its_last_whole_line() -> None:
    for size in range(len(WHOLE)):
        found = journal.parse(WHOLE[:size])
        assert not found.complete
        assert len(found.sentences) == max(0, WHOLE[:size].count(b"\n") - 2)


@given(st.data())
def test_a_changed_byte_never_goes_unnoticed(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda one: one != WHOLE[place]))
    changed = bytearray(WHOLE)
    changed[place] = value
    if json.loads(WHOLE.splitlines()[-1]) != _last(bytes(changed)) or b"\n".join(WHOLE.splitlines()[:-1]) != b"\n".join(
        bytes(changed).splitlines()[:-1]
    ):
        assert not journal.parse(bytes(changed)).complete


def _last(content: bytes) -> object:
    try:
        return json.loads(content.splitlines()[-1])
    except ValueError:
        return None


@given(st.lists(st.binary() | st.sampled_from(WHOLE.splitlines(keepends=True)), max_size=9).map(b"".join))
def test_nothing_that_a_device_sends_is_an_exception(content: bytes) -> None:
    journal.parse(content)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000 + b"\n",
        b'{"kind": ["start"]}\n',
        b'{"kind": "sentence", "index": -1}\n',
        written(LOAD),
        written(START, LOAD, lines=1),
        written(START, LOAD, {"kind": "error", "message": "out of memory"}),
        written(START, LOAD) + b"\n",
    ],
)
def test_what_is_not_finished(content: bytes) -> None:
    assert not journal.parse(content).complete


def test_the_error_of_an_unfinished_run() -> None:
    died = written(START, {"kind": "error", "message": "out of memory"})
    assert error_of(journal.finished, died, "pixel", "noise\n") == (
        "pixel: the runner failed · got out of memory · correct what it says"
    )
    assert error_of(journal.finished, b"", "pixel", "CANNOT LINK\nno such library\n") == (
        "pixel: the runner failed · got no such library · correct what it says"
    )
    assert error_of(journal.finished, WHOLE[:-9], "pixel", "Killed\n", 137) == (
        "pixel: the runner was killed · got signal 9, after 3 sentences: Killed · "
        "free memory on the device, which ends programs when there is none left"
    )
    assert "the runner was killed · got signal 11, after 0 sentences · look" in error_of(
        journal.finished, b"", "pixel", "", 139
    )
    assert "the runner failed · got out of memory" in error_of(journal.finished, died, "pixel", "Aborted\n", 134)
    assert "the runner failed · got no such library" in error_of(journal.finished, b"", "p", "no such library\n", 127)
    assert error_of(journal.finished, WHOLE[:-9], "pixel") == (
        "pixel: the run ended early · got 3 sentences and no valid end marker · "
        "run the same command again: it begins this run anew"
    )
