"""Whole texts as `nat` writes them, kept in tests/data/golden/: what a test of fields cannot see.

To renew them after a change of words: NAT_RENEW_GOLDEN=1 .venv/bin/python -m pytest tests/test_findings.py (or another
file that asks for one), then read `git diff tests/data/golden`.
"""

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "data" / "golden"


def golden(name: str, text: str) -> str:
    """The text kept under this name, to be compared with `text`."""
    path = GOLDEN / name
    if os.environ.get("NAT_RENEW_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")
