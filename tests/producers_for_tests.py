"""Files that other packages write, made by these packages themselves in an environment of their own.

The environment is made once a session by the usual installer; where that cannot reach the packages, or Python cannot
make environments, tests skip and say why.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

INSTALLING = 300  # seconds


@cache
def _environment(packages: tuple[str, ...]) -> tuple[Path, str]:
    """Python in an environment with these packages, and why it could not be made (nothing: it was)."""
    folder = Path(mkdtemp(prefix="producers_"))
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    try:
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALLING, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return python, f"{type(error).__name__}: {error}"
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return python, "" if done.returncode == 0 else (lines or ["pip failed"])[-1]


def produce(script: str, folder: Path, *packages: str) -> None:
    """Run a script in `folder`, with these packages; skips the test where they cannot be installed."""
    python, problem = _environment(packages)
    if problem:
        pytest.skip(f"no environment with {', '.join(packages)}: {problem:.200}")
    done = subprocess.run([str(python), "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
