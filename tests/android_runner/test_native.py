"""The native core, with an engine whose logits are arithmetic."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.android_runner.conftest import Ended, start
from tprune.android_runner import journal

TOKENS, EOS, START = 37, 3, 1
SENTENCES = [[5, 9, 2], [30], [7, 7, 7, 7, 12, 36], [11, 4]]


def run(runner: Path, folder: Path, texts: list[list[int]] | None = None, limit: int = 20, **changes: Any) -> Ended:
    keys = {
        "tprune-run": "1",
        "mode": "steps",
        "threads": "1",
        "output": "journal.jsonl",
        "sentences": "sentences.txt",
        "start": str(START),
        "eos": str(EOS),
        "banned": "",
        "runs": str(len(texts or SENTENCES)),
    }
    folder.mkdir(exist_ok=True)
    text = "".join(f"{key} {value}\n" for key, value in (keys | changes).items())
    (folder / "run.txt").write_text(text)
    lines = (f"{limit} {' '.join(map(str, ids))}\n" for ids in texts or SENTENCES)
    (folder / "sentences.txt").write_text("".join(lines))
    return start([str(runner), "run.txt"], folder)


def expected(
    source: list[int],
    limit: int = 20,
    banned: tuple[int, ...] = (),
    forced_bos: int | None = None,
    forced_eos: int | None = None,
    candidates: Sequence[int] = range(TOKENS),
) -> list[int]:
    """The search over the same arithmetic, written another way."""
    total = 0
    for one in source:
        total = 31 * total + one
    found: list[int] = []
    token = START
    while len(found) < limit:
        scores = {
            other: (total + 7 * token + 3 * len(found) + 11 * other**2) % 101
            for other in candidates
            if other not in banned
        }
        token = min(scores, key=lambda other: (-scores[other], other))
        if forced_bos is not None and not found:
            token = forced_bos
        if forced_eos is not None and len(found) + 1 == limit:
            token = forced_eos
        if token == EOS:
            break
        found.append(token)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"limit": 1},
        {"limit": 4, "forced_eos": EOS},
        {"forced_bos": 35},
        {"banned": (17, 20, 0, 36)},
        {"banned": tuple(range(4, 36)), "forced_bos": 9, "forced_eos": 8, "limit": 6},
    ],
    ids=str,
)
def test_the_search_is_that_of_python(arithmetic: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    chance = random.Random(str(settings))
    sentences = [[chance.randrange(TOKENS) for _ in range(chance.randint(1, 9))] for _ in range(50)]
    given = {
        key: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in settings.items()
        if key != "limit"
    }
    limit = int(str(settings.get("limit", 20)))
    ended = run(arithmetic, tmp_path, sentences, limit, **given)
    found = journal.finished(ended.journal, "arithmetic", ended.said)
    assert [one.index for one in found.timed] == list(range(50))
    assert [one.tokens for one in found.timed] == [expected(ids, **(settings | {"limit": limit})) for ids in sentences]  # type: ignore[arg-type]
    assert any(len(one.tokens) < limit for one in found.timed) or limit == 1


@pytest.mark.parametrize("mode", ["steps", "whole"])
@pytest.mark.parametrize("settings", [{}, {"banned": (4, 30), "forced_bos": 7, "forced_eos": EOS}], ids=str)
def test_a_sentence_chooses_from_its_own_candidates(
    arithmetic: Path, tmp_path: Path, settings: dict[str, Any], mode: str
) -> None:
    chance = random.Random(mode)
    own = [sorted({EOS, 4, 7, 30, *chance.sample(range(TOKENS), 6)}) for _ in SENTENCES]
    (tmp_path / "few.txt").write_text("".join(f"{' '.join(map(str, ids))}\n" for ids in own))
    given: dict[str, Any] = {
        key: " ".join(map(str, value)) if isinstance(value, tuple) else value for key, value in settings.items()
    }
    keys: dict[str, Any] = {"candidates": "few.txt", "inputs": "encode source candidates", "mode": mode, "warmup": "1"}
    found = journal.finished(run(arithmetic, tmp_path, limit=9, runs="8", **keys, **given).journal, "arithmetic")
    used: dict[str, Any] = settings if mode == "steps" else {}  # the one graph has its search built in
    wanted = [expected(ids, 9, candidates=few, **used) for ids, few in zip(SENTENCES, own, strict=True)]
    assert wanted != [expected(ids, 9, **used) for ids in SENTENCES]
    assert [one.tokens for one in found.timed] == 2 * wanted


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("3 5\n" * 4, None),
        ("3 5\n" * 3, "few.txt: fewer lines than sentences"),
        ("3 5\n" * 5, "few.txt:5: more lines than sentences"),
        ("3 5\n\n3\n3\n", "few.txt:2: wanted token ids in rising order"),
        ("3 3\n" * 4, "few.txt:1: wanted token ids in rising order"),
        ("3 x\n" * 4, "few.txt:1: not a number"),
        ("2 5\n" * 4, "no logit is of token 3"),
        (None, "run.txt: the graphs take candidates, and none are named"),
    ],
)
def test_candidates_that_make_no_sense(arithmetic: Path, tmp_path: Path, lines: str | None, said: str | None) -> None:
    (tmp_path / "few.txt").write_text(lines or "")
    named: dict[str, Any] = {} if lines is None else {"candidates": "few.txt"}
    ended = run(arithmetic, tmp_path, inputs="encode source candidates", **named)
    assert (ended.status, ended.said) == ((1, f"error: {said}\n") if said else (0, ""))
    ended = run(arithmetic, tmp_path, candidates="few.txt")
    assert ended.said == "error: run.txt: candidates are named, and no graph takes them\n"


def test_logits_of_every_step(arithmetic: Path, tmp_path: Path) -> None:
    found = journal.finished(run(arithmetic, tmp_path, limit=6, warmup=1, logits="logits.f32").journal, "arithmetic")
    logits = np.fromfile(tmp_path / "logits.f32", np.float32).reshape(-1, TOKENS)
    steps = [min(6, len(one.tokens) + 1) for one in found.timed]  # eos is a step as well
    assert len(logits) == sum(steps)
    first = (((5 * 31 + 9) * 31 + 2) + 7 * START + 11 * np.arange(TOKENS) ** 2) % 101
    assert logits[0].tolist() == first.tolist()
    for file in ("/dev/full", "no/such/folder"):
        ended = run(arithmetic, tmp_path, logits=file)
        assert (ended.status, ended.said) == (1, f"error: {file}: cannot be written\n")


def test_the_whole_search_of_an_engine_is_cut_at_eos_and_limit(arithmetic: Path, tmp_path: Path) -> None:
    found = journal.finished(run(arithmetic, tmp_path, mode="whole", limit=5).journal, "arithmetic")
    assert [one.tokens for one in found.timed] == [expected(ids, 5) for ids in SENTENCES]
    assert {(one.encode_ns, one.first_token_ns) for one in found.timed} == {(None, None)}


def test_warmup_runs_and_times(arithmetic: Path, tmp_path: Path) -> None:
    found = journal.finished(run(arithmetic, tmp_path, warmup="3", runs="6").journal, "arithmetic")
    assert [(one.index, one.timed) for one in found.sentences] == [
        *((index, False) for index in (0, 1, 2)),
        *((index, True) for index in (0, 1, 2, 3, 0, 1, 2, 3)),  # the second round is finished
    ]
    for one in found.sentences:
        assert one.encode_ns is not None and one.first_token_ns is not None
        assert 0 < one.encode_ns <= one.first_token_ns <= one.total_ns
        assert one.library_ns <= one.total_ns
    assert found.load is not None and found.load.engine_version == '"1"\n\xc3\xa4'  # each byte by itself, never invalid
    peak = found.peak_bytes
    assert peak is not None and 1e5 < peak < 1e8
    longer = journal.finished(run(arithmetic, tmp_path, runs="1", milliseconds="60").journal, "arithmetic")
    assert longer.states[-1].at_ns - longer.states[1].at_ns > 6e7
    assert len(longer.timed) > 10 and len(longer.timed) % len(SENTENCES) == 0


def test_the_hash_is_right_at_every_length(arithmetic: Path, tmp_path: Path) -> None:
    lengths = set()
    for count in range(1, 40):
        ended = run(arithmetic, tmp_path, runs="1", warmup=str(count))
        assert journal.parse(ended.journal).complete
        lengths.add(ended.journal.rindex(b'{"kind": "end"') % 64)
    assert len(lengths) > 15  # both sides of a block's padding


def test_power_supplies_are_read_or_null(arithmetic: Path, tmp_path: Path) -> None:
    supplies = tmp_path / "sys" / "class" / "power_supply"
    said = {
        "battery": {"type": "Battery", "status": "Discharging", "current_now": "-412000", "voltage_now": "3900000"},
        "usb": {"type": "USB", "online": "0", "current_now": "7", "voltage_now": "5000000"},
        'b"2': {"type": "Battery", "status": "Full"},
        "empty": {},
    }
    for name, files in said.items():
        (supplies / name).mkdir(parents=True)
        for file, content in files.items():
            (supplies / name / file).write_text(f"{content}\n")
    found = journal.finished(run(arithmetic, tmp_path, sysfs=str(tmp_path / "sys")).journal, "arithmetic")
    wanted = {f"{name}/{file}": content for name, files in said.items() for file, content in files.items()}
    for unread in ("usb/current_now", "usb/voltage_now"):  # each file may cost a talk with a chip
        del wanted[unread]
    assert [state.power_supply for state in found.states] == 3 * [wanted]
    nothing = journal.finished(run(arithmetic, tmp_path, sysfs=str(tmp_path)).journal, "arithmetic")
    assert nothing.states[0].power_supply is None


def test_clocks_and_temperatures_are_read_or_null(arithmetic: Path, tmp_path: Path) -> None:
    sysfs = tmp_path / "sys"
    for cpu, khz in enumerate(("1800000\n", "no number\n")):
        folder = sysfs / "devices" / "system" / "cpu" / f"cpu{cpu}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(khz)
    (sysfs / "devices" / "system" / "cpu" / "cpufreq").mkdir()
    for zone, temperature in enumerate(("41250\n", None)):
        folder = sysfs / "class" / "thermal" / f"thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(f'cpu "{zone}"\n')
        if temperature:
            (folder / "temp").write_text(temperature)
    state = journal.finished(run(arithmetic, tmp_path, sysfs=str(sysfs)).journal, "arithmetic").states[0]
    assert state.frequency_khz == {"0": 1_800_000}
    assert state.temperature_mc == {'0 cpu "0"': 41250, '1 cpu "1"': None}
    state = journal.finished(run(arithmetic, tmp_path, sysfs=str(tmp_path)).journal, "arithmetic").states[0]
    assert (state.frequency_khz, state.temperature_mc) == (None, None)


def test_pinning(arithmetic: Path, tmp_path: Path) -> None:
    found = journal.finished(run(arithmetic, tmp_path, cpus="0").journal, "arithmetic")
    assert found.start is not None and found.start.cpus == [0]
    ended = run(arithmetic, tmp_path, cpus="900")
    assert ended.status == 1
    assert ended.said == "error: cannot be pinned to processors 900: Invalid argument\n"
    assert run(arithmetic, tmp_path, cpus="0 -1").said == "error: no such processor: 0 -1\n"


def test_what_goes_wrong_is_told_and_never_looks_finished(arithmetic: Path, tmp_path: Path) -> None:
    nan = next([one, other] for one in range(37) for other in range(37) if (31 * one + other) % 1000 == 999)
    ended = run(arithmetic, tmp_path, [*SENTENCES, nan])
    assert ended.status == 1
    found = journal.parse(ended.journal)
    assert (found.complete, len(found.sentences)) == (False, len(SENTENCES))
    assert found.error == "the model's output is not a number, target token 1"
    ended = run(arithmetic, tmp_path, graph="missing x.onnx")
    assert journal.parse(ended.journal).error == 'no graph for "missing"'
    assert run(arithmetic, tmp_path, output="/dev/full").said == (
        "error: /dev/full: cannot be written: No space left on device\n"
    )
    assert run(arithmetic, tmp_path, output="no/such/folder").said.startswith(
        "error: no/such/folder: cannot be written"
    )
    every = " ".join(map(str, range(TOKENS)))
    assert "every token is banned" in run(arithmetic, tmp_path, banned=every).said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tprune-run": "2"}, "run.txt:1: wanted tprune-run 1"),
        ({"mode": "sideways"}, "run.txt:2: no such mode"),
        ({"threads": "one"}, "run.txt:3: not a number"),
        ({"threads": "0"}, "run.txt: too few threads"),
        ({"banned": "1 x"}, "run.txt:8: not a number"),
        ({"colour": "red"}, "run.txt:10: no such key: colour"),
        ({"output": ""}, "run.txt:4: something is missing"),
        ({"sentences": "absent.txt"}, "absent.txt: cannot be read: No such file or directory"),
        ({"sentences": "run.txt"}, "run.txt:1: not a number"),
        ({"sentences": "cut.txt"}, "cut.txt:1: the line has no end: the file was cut off"),
        ({"sentences": "zero.txt"}, "zero.txt:1: wanted a limit above 0 and token ids"),
        ({"sentences": "/dev/null"}, "/dev/null: no sentences"),
    ],
    ids=str,
)
def test_bad_run_files_are_named_with_their_line(
    arithmetic: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    (tmp_path / "cut.txt").write_text("5 1 2")
    (tmp_path / "zero.txt").write_text("0 1 2\n")
    ended = run(arithmetic, tmp_path, **changes)
    assert (ended.status, ended.said, ended.journal) == (1, f"error: {said}\n", b"")


def test_every_line_is_json_with_a_kind(arithmetic: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run(arithmetic, tmp_path).journal.splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds == ["start", "state", "load", "state", *["sentence"] * len(SENTENCES), "state", "end"]
