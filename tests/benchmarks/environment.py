"""The rivals' environment: the reference's, with ONNX Runtime laid over it.

It is a second virtual environment that sees the packages of the first, so that PyTorch is there once and the
environment of the reference tests stays as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.reference import environment as reference

VERSION = "5.23.0"
ONNX = ("onnx", "onnxruntime", "onnxscript")
INSTALL_SECONDS = 900


def installed() -> bool:
    """Whether the reference's environment is there, so that nothing would be installed."""
    return (reference.root() / VERSION / reference.MARKER).is_file()


def python() -> tuple[Path, str | None]:
    """The interpreter that runs the rivals, made if missing, and why it lacks ONNX Runtime if it does."""
    base = reference.python(VERSION)
    folder = reference.root() / f"{VERSION}-onnx"
    interpreter, marker = folder / base.parent.name / base.name, folder / reference.MARKER
    if marker.is_file():
        return interpreter, None
    try:
        _run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)])
        (_packages(interpreter) / "reference.pth").write_text(f"{_packages(base)}\n")
        _run([sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet", *ONNX])
        marker.write_text("\n".join(ONNX) + "\n")
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return base, f"ONNX Runtime could not be installed: {said[-1] if said else type(error).__name__}"
    return interpreter, None


def packages() -> Path:
    """Where the reference's own packages are, ONNX Runtime not among them."""
    return _packages(reference.python(VERSION))


def variables(threads: int) -> dict[str, str]:
    """What the rivals' process is told: no network, so many threads, nothing of this process's own Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_", "PYTEST"))}
    offline = {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    return {**kept, **offline, "OMP_NUM_THREADS": str(threads)}


def _packages(interpreter: Path) -> Path:
    command = [str(interpreter), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
