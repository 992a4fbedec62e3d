"""A table of text, as the documentation and the terminal show it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of text; `numeric` says which columns are aligned to the right."""

    title: str
    heads: tuple[str, ...]
    numeric: tuple[bool, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table in GitHub's Markdown, its title above and its notes below."""
        marks = ["---:" if numeric else "---" for numeric in self.numeric]
        body = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
            for line in (self.heads, marks, *self.lines)
        )
        title = f"**{self.title}**" if self.title else ""
        return "\n\n".join(part for part in (title, body, *self.notes) if part)
