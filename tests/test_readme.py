"""README and its pages hold what they say: commands parse, tables are those of the result files."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
import typer

from tests.command import tprune
from tests.conftest import ROOT
from tprune import artifact, cli, settings
from tprune.benchmarks.readme import readme_tables, update_readme
from tprune.config import Target
from tprune.model.shape import dense_config
from tprune.sparsity import reach

README = "README.md"
FILLED = (README, "docs/benchmarks.md")
"""Where result tables stand."""
TYPED = (*FILLED, "docs/bundle.md", "docs/pruning.md")
"""Pages all of whose commands are whole."""
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (README, *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))))
}


def commands(*pages: str) -> list[str]:
    """Every `tprune …` command of these pages, from code blocks and from tables."""
    text = "\n".join(PAGES[page] for page in pages)
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    spans = re.findall(r"`(tprune [^`]*)`", text)
    lines = [line for line in blocks.splitlines() if line.startswith("tprune ")] + spans
    return sorted({re.split(r"\s+#|\s*<", line)[0].strip() for line in lines})


def test_the_page_has_a_command_for_every_verb() -> None:
    verbs = {command.split()[1] for command in commands(README)}
    assert verbs == set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", commands(*TYPED))
def test_a_command_parses(command: str) -> None:
    group = typer.main.get_command(cli.app)
    verb, *arguments = shlex.split(command)[1:]
    parser = group.commands[verb]  # type: ignore[attr-defined]
    parser.make_context(verb, list(arguments), resilient_parsing=False)


@pytest.mark.parametrize(
    "command", [command for command in commands(*TYPED) if "--set" in command or " run " in command]
)
def test_its_settings_exist(command: str) -> None:
    words = shlex.split(command)
    overrides = [after for word, after in itertools.pairwise(words) if word == "--set"]
    named = [word for word in words if (settings.RECIPES / f"{word}.toml").is_file()]
    assert settings.load(named[0], overrides) if named else settings.defaults(overrides)


def marked(name: str) -> list[str]:
    """Lines of the code block between two markers of README."""
    (block,) = re.findall(rf"<!-- {name} -->\n```\w*\n(.*?)```\n<!-- /{name} -->", PAGES[README], flags=re.DOTALL)
    return str(block).splitlines()


def test_text_of_one_s_own_is_read_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").mkdir()
    for split, numbers in (("train", range(2, 60)), ("valid", range(60, 70)), ("test", range(70, 80))):
        for language, says in (("en", "The dog sees {} cats."), ("de", "Der Hund sieht {} Katzen."), ("fr", "Le {}.")):
            (tmp_path / "text" / f"{split}.{language}").write_text("".join(f"{says.format(n)}\n" for n in numbers))
    monkeypatch.chdir(tmp_path)
    (command,) = marked("own text")
    given = shlex.split(command.replace("FOLDER", "text"))[1:]
    small = ["--until", "corpus", "--set", "text.vocabulary=330"]
    assert tprune(monkeypatch, *given, *small) == 0
    assert artifact.read(tmp_path / "runs" / "mine" / "corpus", "corpus").manifest["config"]["test"] == ["test"]
    recipe = "\n".join(marked("own recipe")).replace("FOLDER", "text")
    (tmp_path / "my_recipe.toml").write_text(recipe)
    assert "tprune run my_recipe.toml" in commands(README)
    assert tprune(monkeypatch, "run", "my_recipe.toml", *small) == 0
    made = artifact.read(tmp_path / "runs" / "my_recipe" / "corpus", "corpus").manifest["config"]
    assert (made["source"], made["target"]) == ("en", "fr")
    chosen = settings.load("my_recipe.toml")
    shape = dense_config(vocab_size=chosen.text.vocabulary, **chosen.model.model_dump(exclude={"seed"}))
    reach.require(shape, chosen.targets, chosen.table)


def test_the_steps_for_opus_mt_are_the_recipe_s() -> None:
    chosen = settings.load("opus_mt")
    steps = {words[1]: words for words in map(shlex.split, marked("opus-mt"))}
    (wanted,) = [target for target in chosen.targets if target.name == "flops-70"]
    flags = dict(itertools.pairwise(steps["prune"]))
    assert (flags["--flops"], flags["--score"]) == (f"{wanted.keep:g}", wanted.score)
    assert int(flags["--drop-decoder-layers"]) == wanted.drop_decoder_layers
    assert wanted == Target(
        name=wanted.name, keep=wanted.keep, score=wanted.score, drop_decoder_layers=wanted.drop_decoder_layers
    )
    assert {verb for verb, words in steps.items() if "--recipe" in words} == {"corpus", "analyze", "recover"}
    assert dict(itertools.pairwise(steps["export"]))["--precision"] in chosen.export.precisions


def test_the_criteria_s_losses_are_those_of_the_file() -> None:
    found = json.loads((ROOT / "benchmarks/results/criteria/multi30k.json").read_text(encoding="utf-8"))["rows"]
    table = {line.split(" | ")[0][2:].lower(): line.rstrip(" |").split(" | ")[1:]
             for line in PAGES[README].splitlines() if re.match(r"\| \w+ \|( \d\.\d{3} \|){4}$", line)}  # fmt: skip
    assert table.keys() == {row["score"] for row in found}
    for score, cells in table.items():
        expected = [
            fmean(row[field] for row in found if (row["score"], row["planner"]) == (score, planner))
            for planner in ("uniform", "global")
            for field in ("loss", "loss_compensated")
        ]
        assert [float(cell) for cell in cells] == pytest.approx(expected, abs=5.1e-4)


def test_every_recipe_is_loaded() -> None:
    names = [path.stem for path in settings.RECIPES.glob("*.toml")]
    assert {settings.load(name).name for name in names} == set(names) == {
        "quickstart", "multi30k", "tatoeba", "kftt", "opus_mt"}  # fmt: skip


def test_the_tables_are_those_of_the_result_files() -> None:
    results = ROOT / "benchmarks" / "results"
    if not list(results.glob("*.json")):
        pytest.skip("skipped, needs result files in benchmarks/results")
    for name, tables in readme_tables(results).items():
        (page,) = [PAGES[page] for page in FILLED if f"<!-- {name} -->" in PAGES[page]]
        assert page.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip() == tables.strip()


def test_filling_the_tables_again_changes_no_page(tmp_path: Path) -> None:
    for page in FILLED:
        copy = tmp_path / Path(page).name
        copy.write_text(PAGES[page], encoding="utf-8")
        assert not update_readme(copy, ROOT / "benchmarks" / "results")


def test_help_is_instant() -> None:
    """No verb's help may import a heavy library."""
    code = "import sys, tprune.cli; sys.exit(bool({'torch', 'transformers', 'plotly'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page: str) -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]) if "://" not in target]
    assert targets or page != README
    for target in targets:
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, target
