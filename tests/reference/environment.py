"""Virtual environments holding the reference, each made once and kept.

They lie in ``$NYSTROM_NP_REFERENCE/<version>``, by default ``~/.cache/nystrom_np/reference/<version>``. The
reference cannot share an environment with this package: transformers 4.37.2 needs an older tokenizers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TORCH = "2.13.0"
VERSIONS = ("4.37.2", "5.23.0")
MARKER = "reference-complete.txt"  # written last: a folder without it is a half-made environment
INSTALL_SECONDS = 3600


class ReferenceUnavailable(Exception):
    """The reference can be neither found nor installed; the message says why."""


def requirements(version: str) -> list[str]:
    """What is installed beside one version of the reference."""
    return [f"torch=={TORCH}", f"transformers=={version}", "safetensors", "numpy"]


def root() -> Path:
    """The folder that holds one environment a version."""
    chosen = os.environ.get("NYSTROM_NP_REFERENCE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "nystrom_np" / "reference"


def python(version: str) -> Path:
    """The interpreter of the environment of `version`, made first if it is missing."""
    if version not in VERSIONS:
        raise ValueError(f"version must be one of {', '.join(VERSIONS)}, found {version!r}")
    folder = root() / version
    marker = folder / MARKER
    expected = "\n".join(requirements(version)) + "\n"
    if not (marker.is_file() and marker.read_text() == expected):
        _make(folder, version)
        marker.write_text(expected)
    return _interpreter(folder)


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _make(folder: Path, version: str) -> None:
    """Make the environment from nothing; what an interrupted attempt left there is cleared away."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise ReferenceUnavailable(f"{folder} exists and is not a virtual environment; it is left alone")
    try:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(_interpreter(folder)), "-m", "pip", "install", "--quiet", *requirements(version)])
    except (OSError, subprocess.SubprocessError) as error:
        raise ReferenceUnavailable(f"transformers {version} cannot be installed: {_reason(error)}") from error


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)


def _reason(error: Exception) -> str:
    lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


if __name__ == "__main__":
    print(python(sys.argv[1]))
