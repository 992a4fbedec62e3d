"""How programs begin and end."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

PROGRAM = '''"""What it does."""
from pathlib import Path
from typing import Annotated
import typer
from tprune.entry import script
from tprune.errors import InputError

def _main(source: Path, out: Path, share: Annotated[float, typer.Argument()] = 0.5) -> None:
    if share > 1:
        raise InputError("too much", got=share, wanted="at most 1", fix="give less")
    out.write_text(f"{source} {share}")

if __name__ == "__main__":
    script(_main)
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def called(program: Path, *given: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(program), *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
        cwd=program.parent,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_folder_of_what_it_writes_is_made(program: Path, tmp_path: Path) -> None:
    assert called(program, "a", "new/folder/out.json", "0.25") == (0, "")
    assert (tmp_path / "new" / "folder" / "out.json").read_text() == "a 0.25"


def test_an_error_is_one_line(program: Path) -> None:
    assert called(program, "a", "out", "2") == (1, "error: too much · got 2.0 · wanted at most 1 · give less\n")


def test_what_is_wrong_with_the_arguments_is_said(program: Path) -> None:
    code, said = called(program, "a")
    assert code == 2
    assert "Missing argument 'out'" in said
    code, said = called(program, "--help")
    assert code == 0
    assert "What it does." in said


@pytest.mark.parametrize(
    "name",
    [
        "benchmarks.additive",
        "benchmarks.beam_identity",
        "benchmarks.cost",
        "benchmarks.criteria",
        "benchmarks.prediction",
        "benchmarks.shortlist_gain",
        "benchmarks.training_cost",
        "ablation",
    ],
)
def test_every_benchmark_says_how_it_is_called(name: str) -> None:
    app = typer.Typer()
    app.command()(importlib.import_module(f"tprune.{name}")._main)
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    assert "out" in done.output


def test_an_interruption_says_that_the_work_goes_on(program: Path, tmp_path: Path) -> None:
    program.write_text(PROGRAM.replace("out.write_text", "raise KeyboardInterrupt  #"))
    code, said = called(program, tmp_path, tmp_path / "out")
    assert (code, said.strip()) == (130, "stopped; the same command goes on from here")


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        ("> /dev/full", 1, "error: no space left where the output goes · free some space"),
        (">&- <&-", 0, ""),
    ],
)
def test_output_that_goes_nowhere(ends: str, code: int, said: str) -> None:
    command = f'"{sys.executable}" -m tprune.cli settings quickstart {ends}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.strip()) == (code, said)
