"""The Arm64 runner alone, in an emulator: a pruned model translates as it does here.

The host's own shell starts it with qemu: no adb, no Android and no Arm64 kernel has any part in it, ExecuTorch neither.
An emulator's time says nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.android_runner.phones import DEBIAN13
from tprune import artifact, delivery, recovery, stages
from tprune.android_runner import execution, journal
from tprune.android_runner.build import Runner
from tprune.android_runner.links import Local
from tprune.android_runner.run_file import LOGITS, Job, Mode
from tprune.android_runner.transport import Device
from tprune.artifact import Artifact
from tprune.benchmarks import quality
from tprune.config import Architecture, Learn, Recovery, Target, Text
from tprune.delivery_config import Export
from tprune.export import description
from tprune.learn.evaluate import greedy_bleu
from tprune.model import checkpoint
from tprune.model.search import Search
from tprune.text.corpus import open_corpus

QEMU = DEBIAN13 / "usr/bin/qemu-aarch64"
PROCESSOR = "cortex-a76"
"""A phone's. On processors with SME, as the emulator's own is by default, ONNX Runtime takes other int8 kernels, and
logits differ by 0.04 from those here."""
SENTENCES, LONGEST = 10, 48


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Artifact]:
    """A translation model of the built-in corpus, trained for seconds, pruned and recovered."""
    if not QEMU.exists():
        pytest.skip(f"skipped, needs {QEMU}: run .ci/debian13")
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
def bundles(pruned: Mapping[str, Artifact]) -> Callable[[str], Artifact]:
    """Exports the pruned model in a precision when it is first asked for."""
    settings = Export(max_source=LONGEST, max_target=LONGEST, parity_sentences=2)

    def get(precision: str) -> Artifact:
        model = pruned["model"]
        out = model.path.with_name(precision)
        if not out.exists():
            delivery.bundle(out, model, "onnxruntime", precision, pruned["corpus"], settings).make(False)
        return artifact.read(out)

    return get


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["whole", "steps"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_runner_alone_gives_the_same_tokens_and_logits_on_arm64(
    runners: Callable[..., Runner],
    pruned: Mapping[str, Artifact],
    bundles: Callable[[str], Artifact],
    tmp_path: Path,
    precision: str,
    mode: Mode,
) -> None:
    runner = runners("onnxruntime", "aarch64")
    assert "ld-linux-aarch64.so.1" in {path.name for path in runner.folder.iterdir()}
    begin, loader = runner.command[:3], runner.command[3:]  # env -u LD_PRELOAD
    emulated = replace(runner, command=(*begin, str(QEMU), "-cpu", PROCESSOR, *loader))
    bundle, corpus = bundles(precision), open_corpus(pruned["corpus"])
    sentences = quality.spread(corpus, SENTENCES)
    device = Device(Local(str(tmp_path / "device")))
    job = Job(mode, 1, runs=SENTENCES, logits=mode == "steps")
    tokens, logits = {}, {}
    for name, one in (("here", runners("onnxruntime")), ("emulated", emulated)):
        content = execution.execute(device, one, bundle, job, sentences, name)
        tokens[name] = [line.tokens for line in journal.parse(content).timed]
        if job.logits:
            logits[name] = np.frombuffer(device.pull(f"runs/{name}/{LOGITS}"), np.float32)
    assert tokens["here"] == tokens["emulated"]
    assert len({tuple(ids) for ids in tokens["here"]}) > SENTENCES / 2  # it reads its sentences
    if job.logits:
        said = description.read(bundle.path)
        limits = [Search(**said.search).max_length(len(ids)) for ids in sentences]
        # eos is a step as well, where a translation is not cut off before it
        steps = sum(min(limit, len(ids) + 1) for limit, ids in zip(limits, tokens["here"], strict=True))
        assert len(logits["here"]) == steps * said.target_vocabulary
        away = np.abs(logits["emulated"] - logits["here"]).reshape(steps, -1).max(axis=1)
        if precision == "fp32":
            assert away.max() <= 1e-5
        else:
            # seen: three steps of 262, up to 0.05; supposed: a last bit moves an activation by one step of its scale
            assert (away > 1e-5).mean() <= 0.05
            assert away.max() <= 0.1


def test_the_model_is_a_pruned_one_that_has_learned(pruned: Mapping[str, Artifact]) -> None:
    dense, model = (checkpoint.load(pruned[name].path) for name in ("dense", "model"))
    assert model.num_parameters() < 0.8 * dense.num_parameters()
    assert model.config.decoder_shapes != dense.config.decoder_shapes
    bleu = greedy_bleu(model, open_corpus(pruned["corpus"]), 50)
    assert bleu is not None and bleu > 5  # random weights give none at all
