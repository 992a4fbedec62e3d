"""README and its pages hold what they say: commands parse, tables are those of the result files."""

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tests.conftest import ROOT
from tprune import cli, settings
from tprune.benchmarks.readme import readme_tables, update_readme

README = "README.md"
FILLED = (README, "docs/benchmarks.md")
"""Where result tables stand."""
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


@pytest.mark.parametrize("command", commands(*FILLED))
def test_a_command_parses(command: str) -> None:
    group = typer.main.get_command(cli.app)
    verb, *arguments = shlex.split(command)[1:]
    parser = group.commands[verb]  # type: ignore[attr-defined]
    parser.make_context(verb, list(arguments), resilient_parsing=False)


@pytest.mark.parametrize(
    "command", [command for command in commands(*FILLED) if "--set" in command or " run " in command]
)
def test_its_settings_exist(command: str) -> None:
    words = shlex.split(command)
    overrides = [after for word, after in itertools.pairwise(words) if word == "--set"]
    named = [word for word in words if (settings.RECIPES / f"{word}.toml").is_file()]
    assert settings.load(named[0], overrides) if named else settings.defaults(overrides)


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
