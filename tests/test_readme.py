"""README holds what it says: its commands parse, its tables are those of the result files."""

import itertools
import re
import shlex
import subprocess
import sys

import pytest
import typer

from tests.conftest import ROOT
from tprune import cli, settings
from tprune.benchmarks.readme import readme_tables

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every `tprune …` command of the page, from code blocks and from tables."""
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL))
    spans = re.findall(r"`(tprune [^`]*)`", README)
    lines = [line for line in blocks.splitlines() if line.startswith("tprune ")] + spans
    return sorted({re.split(r"\s+#|\s*<", line)[0].strip() for line in lines})


def test_the_page_has_a_command_for_every_verb() -> None:
    verbs = {command.split()[1] for command in commands()}
    assert verbs == set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", commands())
def test_a_command_parses(command: str) -> None:
    group = typer.main.get_command(cli.app)
    verb, *arguments = shlex.split(command)[1:]
    parser = group.commands[verb]  # type: ignore[attr-defined]
    parser.make_context(verb, list(arguments), resilient_parsing=False)


@pytest.mark.parametrize("command", [command for command in commands() if "--set" in command or " run " in command])
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
        assert README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip() == tables.strip()


def test_help_is_instant() -> None:
    """No verb's help may import a heavy library."""
    code = "import sys, tprune.cli; sys.exit(bool({'torch', 'transformers', 'plotly'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_links_and_pictures_exist() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
