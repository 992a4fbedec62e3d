"""The whole chain on the built-in corpus, in a size for tests."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu

from tests.artifacts import error_of
from tests.command import mini_recipe, tprune
from tests.killing import outcome, run_killed
from tests.model.test_origin import checkpoint
from tprune import artifact, pipeline, settings, trim
from tprune.benchmarks import record
from tprune.errors import InputError, PlanError
from tprune.export.translation import Translator
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text.corpus import open_corpus


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(
        [sys.executable, "-m", "tprune.cli", "run", mini_recipe(folder), "--out", folder / "run"],
        check=True,
        timeout=300,
        capture_output=True,
    )
    return folder / "run"


def test_every_stage_leaves_an_artifact_and_the_report_is_there(undisturbed: Path) -> None:
    kinds = {
        "corpus": "corpus",
        "dense": "model",
        "analysis": "analysis",
        "shs": "model",
        "plans/small": "plan",
        "pruned/small": "model",
        "recovered/small": "model",
        "bundles/onnxruntime/fp32/dense": "bundle",
        "bundles/onnxruntime/fp32/small": "bundle",
        "results": "results",
        "report": "report",
    }
    assert {name: artifact.read(undisturbed / name).kind for name in kinds} == kinds
    assert not list(undisturbed.rglob("*.partial"))
    assert (undisturbed / "report" / "index.html").is_file()


def test_rows_hold_what_the_artifacts_say(undisturbed: Path) -> None:
    rows = {row.model: row for row in record.read_all(undisturbed / "results")}
    sizes = {
        name: sum(parameter.numel() for parameter in _model(undisturbed / path).parameters())
        for name, path in (("dense", "dense"), ("small", "recovered/small"))
    }
    assert {name: row.parameters for name, row in rows.items()} == sizes
    assert sizes["small"] < sizes["dense"]
    assert {name: row.seed for name, row in rows.items()} == {"dense": 1, "small": 3}  # learn.seed, recover.seed
    for row in rows.values():  # which seed, where anything was drawn: bench.seed
        assert row.bootstrap_seed == (None if row.bleu_loss_upper_percent is None else 1)
    assert rows["small"].latency_ms is not None
    assert len(rows["small"].latency_ms.samples) == 2 * 4  # rounds x sentences
    for name, path in (("dense", "dense"), ("small", "recovered/small")):
        assert rows[name].model_hash == artifact.read(undisturbed / path).identity
        bundle = undisturbed / "bundles/onnxruntime" / rows[name].precision / name
        assert rows[name].bundle_hash == artifact.read(bundle).identity


def test_a_second_run_makes_nothing_again(undisturbed: Path) -> None:
    told: list[str] = []
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("manifest.json")}
    pipeline.run(settings.load(undisturbed.parent / "mini.toml"), undisturbed, told.append)
    assert all("up to date" in line for line in told)
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.rglob("manifest.json")}


def test_a_changed_setting_makes_only_what_depends_on_it_again(undisturbed: Path, tmp_path: Path) -> None:
    told: list[str] = []
    subprocess.run(["cp", "-r", undisturbed, tmp_path / "run"], check=True)
    pipeline.run(settings.load(undisturbed.parent / "mini.toml", ["bench.bootstrap=30"]), tmp_path / "run", told.append)
    assert [line.split(":")[0] for line in told if "stale" in line] == ["benchmark", "report"]


def test_a_beam_is_timed_where_it_is_asked_for(undisturbed: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", undisturbed, tmp_path / "run"], check=True)
    wanted = ['bench.beam_engines=["onnxruntime"]', "bench.beam=3"]
    made = pipeline.run(settings.load(undisturbed.parent / "mini.toml", wanted), tmp_path / "run", print, "results")
    rows = {(row.decode, row.model): row for row in record.read_all(made.path)}
    assert set(rows) == {(decode, model) for decode in ("greedy", "beam3") for model in ("dense", "small")}
    sources, references = open_corpus(artifact.read(undisturbed / "corpus")).raw("test")
    found = Translator(undisturbed / "bundles/onnxruntime/fp32/small", beams=3, batch=64).translate(sources)
    assert rows["beam3", "small"].bleu == pytest.approx(sacrebleu.corpus_bleu(found, [references]).score)
    assert all(row.latency_ms is not None and len(row.latency_ms.samples) == 2 * 4 for row in rows.values())
    assert rows["beam3", "small"].baseline == "dense" and rows["beam3", "small"].speedup is not None


def test_test_sentences_that_no_bundle_takes_are_refused_before_the_training(tmp_path: Path) -> None:
    told: list[str] = []
    config = settings.load(mini_recipe(tmp_path), ["export.max_source=4"])
    with pytest.raises(
        InputError, match=r"longer than the bundles are made for · test line .* set export\.max_source to"
    ):
        pipeline.run(config, tmp_path / "run", told.append)
    assert len(told) == 1
    assert not (tmp_path / "run" / "dense").exists()
    # nobody asks for a bundle's BLEU
    assert pipeline.run(config, tmp_path / "run", told.append, "corpus").kind == "corpus"


def test_a_model_is_not_fetched_for_a_text_that_is_not_there(tmp_path: Path) -> None:
    told: list[str] = []
    config = settings.load("opus_mt", [f"start={tmp_path / 'no-model'}", f"text.folder={tmp_path / 'no-text'}"])
    with pytest.raises(InputError, match="no-text: no such folder"):
        pipeline.run(config, tmp_path / "run", told.append)
    assert told == []


def test_a_budget_that_no_plan_can_meet_is_refused_before_the_training(tmp_path: Path) -> None:
    told: list[str] = []
    config = settings.load(mini_recipe(tmp_path, keep="0.05"))
    with pytest.raises(
        PlanError, match=r"target small: keep = 0\.05 of the flops, where the smallest model has 0\.\d+"
    ):
        pipeline.run(config, tmp_path / "run", told.append)
    assert [line.split(":")[0] for line in told] == ["corpus"]
    assert pipeline.run(config, tmp_path / "run", told.append, "corpus").kind == "corpus"


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_a_vocabulary_that_cannot_be_trimmed_is_refused_before_the_training(tmp_path: Path) -> None:
    told: list[str] = []
    recipe, run = mini_recipe(tmp_path, keep="0.9\nvocabulary = 1"), tmp_path / "run"
    config = settings.load(recipe, [f"start={checkpoint('opus-mt', tmp_path)}", "text.max_tokens=256"])
    assert error_of(pipeline.run, config, run, told.append, "recover").startswith(
        f"{run / 'corpus' / 'tokenizer'}: this tokenizer's vocabulary cannot be trimmed · got a tokenizer with files "
    )
    assert [line.split(":")[0] for line in told] == ["convert", "corpus"]
    [target], model = config.targets, artifact.read(run / "dense")
    text = artifact.read(run / "corpus")
    parts = (target, trim.Trimmed(model, model, text, text), tmp_path / "made", pytest.fail, 1)
    assert error_of(trim.prepare, *parts).startswith(f"{run / 'dense'}: this tokenizer's vocabulary cannot be trimmed")


def test_a_target_with_fewer_tokens_and_a_narrower_stream_goes_all_the_way(undisturbed: Path, tmp_path: Path) -> None:
    told: list[str] = []
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", undisturbed, run], check=True)
    target = 'targets=[{name="few", score="magnitude", keep=0.6, grid=4, vocabulary=1, hidden=0.75}]'
    pipeline.run(settings.load(undisturbed.parent / "mini.toml", [target]), run, told.append, "results")
    dense, few = (_model(run / path).config for path in ("dense", "recovered/few"))
    assert few.d_model == 12
    assert few.output_vocab_size < few.vocab_size <= dense.vocab_size
    assert not (run / "trimmed/few/lessons").exists()  # the lessons are the text
    lessons, text = (open_corpus(run / path) for path in ("trimmed/few/corpus", "corpus"))
    assert lessons.tokenizer.vocabulary_size == few.vocab_size
    assert len(lessons.split("train")) == len(text.split("train"))
    assert _model(run / "trimmed/few/dense").config.output_vocab_size == few.output_vocab_size
    rows = {row.model: row for row in record.read_all(run / "results")}
    assert rows["few"].parameters == _model(run / "recovered/few").num_parameters() < rows["dense"].parameters
    assert rows["few"].latency_ms is not None
    pipeline.run(settings.load(undisturbed.parent / "mini.toml", [target]), run, told.append, "results")
    assert all("up to date" in line for line in told[len(told) // 2 :])


def test_a_run_starts_from_another_ones_model(undisturbed: Path, tmp_path: Path) -> None:
    given, run = undisturbed / "recovered" / "small", tmp_path / "run"
    config = settings.load(mini_recipe(tmp_path), [f"start={given}"])
    made = pipeline.run(config, run, lambda _: None, "recover")
    before, start = artifact.read(given).manifest["files"], artifact.read(run / "dense").manifest["files"]
    assert start["model.safetensors"] == before["model.safetensors"]
    for name in ("train.ids.npy", "valid.ids.npy", "test.target.txt"):  # the model brings its tokenizer
        assert artifact.sha256(run / "corpus" / name) == artifact.sha256(undisturbed / "corpus" / name)
    sizes = [artifact.read(path).manifest["files"]["model.safetensors"]["bytes"] for path in (given, made.path)]
    assert sizes[0] > sizes[1]


def test_the_verbs_do_the_same_one_by_one(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small, text = tmp_path / "small", undisturbed / "corpus"
    cut = ("--flops", 0.6, "--grid", 4, "--vocabulary", 1, "--hidden", 0.75, "--corpus", text)
    assert tprune(monkeypatch, "prune", undisturbed / "dense", *cut, "--out", small) == 0
    kinds = {"": "model", ".plan": "plan", ".trimmed/stream": "model", ".trimmed/plan": "plan",
             ".trimmed/model": "model", ".trimmed/dense": "model", ".trimmed/corpus": "corpus"}  # fmt: skip
    assert {end: artifact.read(Path(f"{small}{end}")).kind for end in kinds} == kinds
    trimmed = Path(f"{small}.trimmed")
    assert _model(small).config.d_model == 12 < _model(trimmed / "dense").config.d_model
    learn = ("--set", "recover.steps=2", "--set", "recover.batch_tokens=256")
    given = ("recover", small, trimmed / "dense", trimmed / "corpus", *learn, "--out", tmp_path / "smaller")
    assert tprune(monkeypatch, *given) == 0
    assert str(tmp_path / "smaller") in capsys.readouterr().out
    assert tprune(monkeypatch, "prune", undisturbed / "dense", *cut[:-2], "--out", tmp_path / "other") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "error: --hidden, --vocabulary: no corpus · give a corpus with --corpus" in said


def test_killed_at_random_moments_it_ends_with_the_same_plan_and_bleu(undisturbed: Path, tmp_path: Path) -> None:
    run_killed(str(mini_recipe(tmp_path)), tmp_path / "run", random.Random(), seconds=(6, 20))
    assert outcome(tmp_path / "run") == outcome(undisturbed)


def test_the_run_says_where_its_report_is(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tprune(monkeypatch, "report", undisturbed) == 0
    assert str(undisturbed / "report" / "index.html") in capsys.readouterr().out
    assert tprune(monkeypatch, "report", undisturbed, "--json") == 0
    assert {row["model"] for row in json.loads(capsys.readouterr().out)} == {"dense", "small"}


def _model(path: Path) -> TPruneForConditionalGeneration:
    from tprune.model import checkpoint

    return checkpoint.load(path)
