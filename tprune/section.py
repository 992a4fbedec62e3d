"""What every part of the settings is: immutable data that knows its keys."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the tree: immutable, and nothing unknown gets in."""

    # JSON, and so a manifest, has no infinity
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def problems(error: ValidationError) -> list[str]:
    """One short clause for each thing pydantic found wrong."""
    found = []
    for entry in error.errors():
        key = ".".join(str(part) for part in entry["loc"])
        if entry["type"] == "extra_forbidden":
            found.append(f"unknown key {key}")
        elif entry["type"] == "value_error" and isinstance(entry["input"], dict):  # of what belongs together
            found.append(f"{key}: {entry['ctx']['error']}" if key else str(entry["ctx"]["error"]))
        else:
            found.append(f"{key}: {entry['msg'][:1].lower()}{entry['msg'][1:]} (got {entry['input']!r})")
    return found


def resolved(section: BaseModel) -> dict[str, Any]:
    """A section as JSON-able data, for manifests: without what is not set, so that a new setting that nobody sets makes
    nothing stale."""
    return json.loads(section.model_dump_json(exclude_none=True))  # type: ignore[no-any-return]
