"""What the figures were measured on: the machine and the versions, without names of hosts or folders."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from nystrom_np import __version__
from nystrom_np.array_module import array_module_of

PACKAGES = ("numpy", "scipy", "safetensors", "tokenizers", "threadpoolctl", "tqdm")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: str) -> dict[str, str]:
    """The processor, the memory, the system, the BLAS, and the GPU if one is used."""
    told = {
        "CPU": cpu_model(),
        "cores": str(cores()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "BLAS": blas(),
    }
    if device != "cpu":
        runtime = array_module_of(device).cuda.runtime
        told["GPU"] = runtime.getDeviceProperties(0)["name"].decode()
        told["NVIDIA driver"] = driver()
        told["CUDA of the driver"], told["CUDA runtime"] = (
            f"{number // 1000}.{number % 1000 // 10}"
            for number in (runtime.driverGetVersion(), runtime.runtimeGetVersion())
        )
    return told


def driver() -> str:
    """The version of NVIDIA's driver, as nvidia-smi says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def versions(device: str) -> dict[str, str]:
    """This package, Python and the packages that it runs on."""
    told = {"nystrom_np": __version__, "Python": platform.python_version()}
    told |= {name: installed(name) for name in PACKAGES}
    if device != "cpu":
        told["cupy"] = array_module_of(device).__version__
    return told


def installed(package: str) -> str:
    """The version of a package, or that it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def cpu_model() -> str:
    """The processor's name with its instruction set, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    said = dict(line.split(":", 1) for line in lines if ":" in line)
    said = {key.strip(): value.strip() for key, value in said.items()}
    flags = said.get("flags", "").split()
    widest = next((name for name in ("avx512f", "avx2", "avx") if name in flags), None)
    return said.get("model name", "unknown") + (f" ({widest.upper()})" if widest else "")


def blas() -> str:
    """The library that computes NumPy's matrix products, with its threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown"
    np.ones((2, 2)) @ np.ones((2, 2))
    found = {
        f"{library['internal_api']} {library['version']}, {library.get('architecture', 'unknown')} kernels, "
        f"{library['num_threads']} threads"
        for library in threadpool_info()
        if library["user_api"] == "blas" and "numpy" in library["filepath"]
    }
    return "; ".join(sorted(found)) or "unknown"
