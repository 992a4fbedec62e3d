"""The tests mirror the tree; `python -m tests` runs ruff, mypy and pytest in that order."""
