"""What every test needs: the symlinks, a seed of its own, and the real text where it is there."""

import random
import zlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL_TEXT = ROOT.parent / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    for name in ("export", "benchmarks", "android_runner"):
        if not (ROOT / "tprune" / name / "__init__.py").is_file():
            raise pytest.UsageError(
                f"tprune/{name} is no symlink to ../{name}: this clone lost its symlinks. "
                "Cure: git config core.symlinks true && git checkout -- tprune"
            )


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> int:
    """Seed every generator from the test's own id, so that no test depends on another's order."""
    import torch

    value = zlib.crc32(request.node.nodeid.encode())
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
    return value


@pytest.fixture
def real_text() -> Path:
    """The folder of real parallel corpora, or a visible skip."""
    if not REAL_TEXT.is_dir():
        pytest.skip("skipped, needs the real parallel text in ../shared/data")
    return REAL_TEXT
