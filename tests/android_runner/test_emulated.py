"""A pruned model on an emulated Arm64 phone, and on the runner alone: it translates as it does here.

On the phone everything but the kernel is for Arm64: adbd, the shell, its programs, the runner, ONNX Runtime. Alone,
the host's own shell starts the runner with qemu, which needs no binfmt_misc. ExecuTorch has no part in either. An
emulator's time says nothing, and none is reported.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.android_runner.arm64_phone import FOLDER, PROCESSOR, QEMU, arm64_desk
from tests.android_runner.contestants import BENCH, QUICK
from tests.android_runner.last_bit import forced, moved
from tprune import artifact, delivery, recovery, stages
from tprune.android_runner import execution, journal
from tprune.android_runner.build import Runner
from tprune.android_runner.links import Local
from tprune.android_runner.measurement import measure
from tprune.android_runner.run_file import LOGITS, Job, Mode
from tprune.android_runner.session import Session
from tprune.android_runner.transport import Device
from tprune.artifact import Artifact
from tprune.benchmarks import quality
from tprune.config import Architecture, Learn, Recovery, Target, Text
from tprune.delivery_config import Export
from tprune.export import description
from tprune.export.description import Bundle
from tprune.export.runtime import ENGINES, open_bundle
from tprune.learn.evaluate import greedy_bleu
from tprune.model import checkpoint
from tprune.model.decode import one_by_one
from tprune.model.search import Search
from tprune.text.corpus import open_corpus

SENTENCES, LONGEST = 10, 48
DRAWS = (1, 2, 3)
SHARE = 0.5
"""How much of the share of steps that moved weights take over an edge (0.65) another processor may: it takes ≤ 0.05."""


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Artifact]:
    """A translation model of the built-in corpus, trained for seconds, pruned and recovered."""
    root = tmp_path_factory.mktemp("pruned")
    text = stages.corpus(
        root / "corpus", Text(kind="synthetic", sentences=8000, vocabulary=400, max_tokens=LONGEST)
    ).make(False)
    size = Architecture(d_model=64, heads=4, ffn=192, encoder_layers=1, decoder_layers=2, max_positions=64, dropout=0.0)
    learn = Learn(steps=300, batch_tokens=1024, learning_rate=5e-3, schedule="linear", warmup=60, label_smoothing=0.0)
    dense = stages.train(root / "dense", text, size, learn, None).make(False)
    target = Target(name="pruned", keep=0.6, score="magnitude", grid=4)
    plan = stages.plan(root / "plan", dense, None, text, target, 1).make(False)
    cut = stages.prune(root / "cut", dense, plan, text).make(False)
    again = {**learn.model_dump(), "steps": 120, "learning_rate": 3e-3, "warmup": 10}
    model = recovery.recover(root / "model", cut, dense, text, Recovery(**again), None).make(False)
    return {"corpus": text, "dense": dense, "model": model}


@pytest.fixture(scope="module")
def bundles(pruned: Mapping[str, Artifact]) -> Callable[..., Artifact]:
    """Exports a model in a precision when it is first asked for."""
    settings = Export(max_source=LONGEST, max_target=LONGEST, parity_sentences=2)

    def get(precision: str, name: str = "model") -> Artifact:
        model = pruned[name]
        out = model.path.with_name(f"{name}-{precision}")
        if not out.exists():
            delivery.bundle(out, model, "onnxruntime", precision, pruned["corpus"], settings).make(False)
        return artifact.read(out)

    return get


@dataclass(frozen=True)
class Emulated:
    """A device of Arm64.

    Attributes:
        device: Where the runner is pushed to.
        started: Gives what starts it there.
    """

    device: Device
    started: Callable[[Runner], Runner]


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    with arm64_desk(tmp_path_factory.mktemp("home")) as made:
        yield Device(made.link(1, FOLDER))


@pytest.fixture(scope="module", params=["phone", "alone"])
def emulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    if request.param == "phone":
        return Emulated(request.getfixturevalue("phone"), lambda runner: runner)
    if not QEMU.exists():
        pytest.skip(f"skipped, needs {QEMU}: run .ci/debian13")
    return Emulated(Device(Local(str(tmp_path_factory.mktemp("alone") / "device"))), _by_the_host)


def _by_the_host(runner: Runner) -> Runner:
    begin, loader = runner.command[:3], runner.command[3:]  # env -u LD_PRELOAD
    return replace(runner, command=(*begin, str(QEMU), "-cpu", PROCESSOR, *loader))


def alike(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two translations begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def by_step(
    written: NDArray[np.float32], said: Bundle, sentences: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]
) -> list[NDArray[np.float32]]:
    """The logits (steps, N) of each sentence in what a runner has written."""
    search = Search(**said.search)
    steps = [min(search.max_length(len(ids)), len(found) + 1) for ids, found in zip(sentences, tokens, strict=True)]
    assert len(written) == sum(steps) * said.target_vocabulary
    return np.split(written.reshape(sum(steps), -1), np.cumsum(steps)[:-1])


def distances(one: Sequence[NDArray[np.float32]], two: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The greatest distance of a logit at every step of all sentences."""
    away: NDArray[np.float32] = np.abs(np.concatenate(one) - np.concatenate(two)).max(axis=1)
    return away


def away_from(
    said: Bundle,
    seed: int,
    sentences: Sequence[Sequence[int]],
    tokens: Sequence[Sequence[int]],
    logits: Sequence[NDArray[np.float32]],
    folder: Path,
) -> NDArray[np.float32]:
    """What the last bits of every weight do at every step, on this processor."""
    beside = moved(said, folder / f"moved-{seed}", seed)
    return distances(logits, [forced(beside, *pair) for pair in zip(sentences, tokens, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["whole", "steps"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_same_tokens_and_logits_on_arm64(
    runners: Callable[..., Runner],
    emulated: Emulated,
    pruned: Mapping[str, Artifact],
    bundles: Callable[..., Artifact],
    tmp_path: Path,
    precision: str,
    mode: Mode,
) -> None:
    runner = runners("onnxruntime", "aarch64")
    assert "ld-linux-aarch64.so.1" in {path.name for path in runner.folder.iterdir()}
    bundle, corpus = bundles(precision), open_corpus(pruned["corpus"])
    sentences = quality.spread(corpus, SENTENCES)
    here = Device(Local(str(tmp_path / "device")))
    job = Job(mode, 1, runs=SENTENCES, logits=mode == "steps")
    tokens, written = {}, {}
    for name, device, one in (
        ("here", here, runners("onnxruntime")), ("emulated", emulated.device, emulated.started(runner))
    ):  # fmt: skip
        content = execution.execute(device, one, bundle, job, sentences, name)
        tokens[name] = [line.tokens for line in journal.parse(content).timed]
        if job.logits:
            written[name] = np.frombuffer(device.pull(f"runs/{name}/{LOGITS}"), np.float32)
    assert len({tuple(ids) for ids in tokens["here"]}) > SENTENCES / 2  # it reads its sentences
    said = description.read(bundle.path)
    logits = [forced(said, ids, found) for ids, found in zip(sentences, tokens["here"], strict=True)]
    if precision == "int8":
        noise = np.stack([away_from(said, seed, sentences, tokens["here"], logits, tmp_path) for seed in DRAWS])
    pairs = list(zip(tokens["here"], tokens["emulated"], strict=True))
    for (ours, theirs), at_steps in zip(pairs, logits, strict=True):
        if ours != theirs:
            assert precision == "int8"
            second, first = np.sort(at_steps[alike(ours, theirs)])[-2:]
            assert first - second <= 2 * noise.max()  # only where two tokens are as good as equal
    if job.logits:
        # up to the first token that differs; eos is a step as well, where a translation is not cut off before it
        until = [alike(*pair) + 1 for pair in pairs]
        parts = {name: by_step(written[name], said, sentences, tokens[name]) for name in tokens}
        away = distances(*([part[:end] for part, end in zip(parts[name], until, strict=True)] for name in parts))
        if precision == "fp32":
            assert away.max() <= 1e-5
        else:
            # no further from this processor than that is from itself when every weight's last bits are moved
            assert (away > 1e-5).mean() <= SHARE * (noise > 1e-5).mean()
            assert away.max() <= 2 * noise.max()


def test_the_measure_of_int8_tells_another_arithmetic(
    pruned: Mapping[str, Artifact], bundles: Callable[..., Artifact], tmp_path: Path
) -> None:
    said, other = (description.read(bundles(precision).path) for precision in ("int8", "int8-block"))
    sentences = quality.spread(open_corpus(pruned["corpus"]), SENTENCES)
    translate = one_by_one(ENGINES[said.engine](said, 1), Search(**said.search))
    tokens = [translate(ids) for ids in sentences]
    logits, others = ([forced(one, *pair) for pair in zip(sentences, tokens, strict=True)] for one in (said, other))
    noise = away_from(said, DRAWS[0], sentences, tokens, logits, tmp_path)
    assert (distances(logits, others) > 1e-5).mean() > 1.5 * SHARE * (noise > 1e-5).mean()


@pytest.mark.slow
def test_a_session_on_an_emulated_phone(
    runners: Callable[..., Runner],
    phone: Device,
    pruned: Mapping[str, Artifact],
    bundles: Callable[..., Artifact],
    tmp_path: Path,
) -> None:
    runners("onnxruntime", "aarch64")
    corpus = open_corpus(pruned["corpus"])
    entries = {("onnxruntime", "fp32", name): bundles("fp32", name) for name in ("dense", "model")}
    session = Session(phone, QUICK, tmp_path, lambda _: None)
    assert (session.facts.kind, session.facts.machine, session.facts.abi) == ("emulated-arm64", "aarch64", "aarch64")
    rows = list(measure("test", "synthetic", session, entries, corpus, "de", BENCH))
    assert [row.model for row in rows] == ["dense", "model"]
    for row in rows:
        said = row.model_dump()
        assert (row.latency_ms, row.speedup, said["peak_memory_bytes"]) == (None, None, None)
        assert (row.environment.kind, row.valid.reasons) == ("emulated-arm64", ("emulated: not timed",))
        bundle = entries["onnxruntime", "fp32", row.model]
        search = Search(**description.read(bundle.path).search)
        here = quality.translate_tests(open_bundle(bundle.path, 1), corpus, search, "de")
        assert said["hypotheses_sha256"] == here.digest


def test_the_model_is_a_pruned_one_that_has_learned(pruned: Mapping[str, Artifact]) -> None:
    dense, model = (checkpoint.load(pruned[name].path) for name in ("dense", "model"))
    assert model.num_parameters() < 0.8 * dense.num_parameters()
    assert model.config.decoder_shapes != dense.config.decoder_shapes
    bleu = greedy_bleu(model, open_corpus(pruned["corpus"]), 50)
    assert bleu is not None and bleu > 5  # random weights give none at all
