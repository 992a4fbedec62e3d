"""The native runners, built once, and bundles of small random models for them."""

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.android_runner import contestants
from tests.android_runner.contestants import Given
from tests.export.conftest import SETTINGS, models  # noqa: F401  a fixture
from tests.export.test_shortlist import made, random_shortlist
from tprune.android_runner import build
from tprune.android_runner.build import Runner
from tprune.errors import MachineError
from tprune.export.bundle import export

TEST_ENGINE = Path(__file__).parent / "native" / "arithmetic_engine.cpp"


@dataclass(frozen=True)
class Ended:
    """What a process left."""

    status: int
    journal: bytes
    said: str


def start(command: Sequence[str], folder: Path) -> Ended:
    """Run a runner in a folder that holds its run file."""
    journal = folder / "journal.jsonl"
    journal.unlink(missing_ok=True)
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    return Ended(ended.returncode, journal.read_bytes() if journal.exists() else b"", ended.stderr)


@pytest.fixture(scope="session")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner with the engine of `native/arithmetic_engine.cpp`."""
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"skipped, needs {tool}")
    out = tmp_path_factory.mktemp("native") / "arithmetic"
    options = {"TEST_ENGINE": str(TEST_ENGINE), "CMAKE_BUILD_TYPE": "Debug", "TPRUNE_WERROR": "ON"}
    build.compile_sources(out, "test_runner", options)
    return out / "test_runner"


@pytest.fixture(scope="session")
def runners() -> Callable[[str], Runner]:
    """Builds the runner of an engine for this machine, or skips visibly."""

    def get(engine: str, abi: str = "x86_64") -> Runner:
        try:
            return build.build(engine, abi)
        except MachineError as error:
            if error.what.endswith("cannot be built"):  # everything it needs is there
                raise
            pytest.skip(f"skipped, needs {error}")

    return get


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """A corpus, and bundles of two random models for it."""
    return contestants.make(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="session")
def small_bundles(
    tmp_path_factory: pytest.TempPathFactory,
    models: Mapping[str, Path],  # noqa: F811
) -> Callable[..., Path]:
    """Exports the random model's bundle for an engine and precision, and maybe a shortlist, when first asked for it."""
    root = tmp_path_factory.mktemp("small-bundles")

    def get(engine: str, precision: str, shortlisted: bool = False) -> Path:
        out = root / f"{engine}-{precision}{'-shortlisted' if shortlisted else ''}"
        if not out.exists():
            few = made(out.with_suffix(".shortlist"), random_shortlist()) if shortlisted else None
            export(models["pre"], out, engine, SETTINGS, precision=precision, shortlist=few)
        return out

    return get
