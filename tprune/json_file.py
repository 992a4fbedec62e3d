"""JSON files that are whole or absent."""

import json
from pathlib import Path
from typing import Any

from tprune.errors import ArtifactError


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON through a temporary file, so that it is whole or absent."""
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        ArtifactError: Not there, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError("no such file", where=path, fix="check the path") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError("not valid JSON", where=path, got=str(error), fix="make the damaged file again") from None


def read_json_or_none(path: Path) -> Any:
    """Parse a JSON file; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
