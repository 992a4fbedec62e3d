"""Small artifacts for the tests of the house itself."""

from pathlib import Path
from typing import Any

import pytest

from tprune import artifact
from tprune.artifact import Artifact
from tprune.errors import TpruneError


def make(out: Path, text: str = "hello", kind: str = "corpus", **given: Any) -> Artifact:
    with artifact.create(out, kind, **({"config": {"a": 1}} | given)) as partial:
        (partial / "data").mkdir()
        (partial / "data" / "x.txt").write_text(text)
        (partial / "y.bin").write_bytes(b"\0\1")
    return artifact.read(out, kind)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def error_of(action: Any, *arguments: Any, **given: Any) -> str:
    with pytest.raises(TpruneError) as caught:
        action(*arguments, **given)
    return str(caught.value)
