"""Run every check: `python -m tests` (lint, types, tests); further arguments go to pytest."""

import subprocess
import sys

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
)


def main() -> int:
    """Run the checks one after the other and stop at the first that fails."""
    for check in (*CHECKS, ("pytest", *sys.argv[1:])):
        print("==", " ".join(check), flush=True)
        status = subprocess.run([sys.executable, "-m", *check], check=False).returncode
        if status:
            return status
    return 0


sys.exit(main())
