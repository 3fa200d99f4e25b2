"""Without a GPU: the kernels that CuPy would compile when they are first needed, compiled by NVIDIA's own compiler.

NVRTC comes as a wheel and needs neither a GPU nor a driver. What it is given here is what CuPy would give it: the code
that ``cupy.fuse`` makes of each formula, with CuPy's headers and options. The package has no kernel in a text of its
own.
"""

import ast
from itertools import zip_longest
from typing import Any

import pytest

from tests.test_cupy_api import FUSED, cupy, sources, traced

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # CuPy warns where it finds no CUDA
ARCHITECTURES = ("80", "90")  # A100; H100 and H200


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    """CuPy's own door to the compiler."""
    from cupy.cuda import compiler

    try:
        compiler._get_nvrtc_version()
    except (RuntimeError, ImportError, OSError) as error:
        pytest.skip(f"NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12 ({str(error).strip()[:80]})")
    return compiler


def code_of(kernel: Any, given: list[Any]) -> str:
    """The CUDA code of a kernel for the arrays and numbers that it was traced with."""
    from cupy._core import _kernel
    from cupy._core._carray import Indexer

    an_array, an_index, a_number = 1, 2, 3  # kinds of arguments
    dtypes = [parameter.dtype for parameter in (*kernel.in_params, *kernel.out_params)]
    types = kernel._decide_params_type(tuple(dtypes[: kernel.nin]), tuple(dtypes[kernel.nin :]))[-1]
    arguments = [
        _kernel._ArgInfo(a_number, float, dtype, 0, True, True)
        if isinstance(value, float)
        else _kernel._ArgInfo(an_array, cupy.ndarray, dtype, 2, False, True)
        for dtype, value in zip_longest(dtypes, given)
    ]
    arguments.append(_kernel._ArgInfo(an_index, Indexer, None, 2, True, True))
    return _kernel._get_elementwise_kernel_code(
        tuple(arguments), types, kernel.params, kernel.operation, kernel.name, kernel.preamble
    )


def compiled(nvrtc: Any, code: str, architecture: str) -> bytes:
    """The machine code for a GPU, by the headers and options that CuPy adds."""
    from cupy._core import core
    from cupy.cuda import function

    made = []

    def compile_it(source: str, options: tuple[str, ...] = (), **_: Any) -> Any:
        options = (*options, "-ftz=true", f"-arch=sm_{architecture}", "--device-as-default-execution-space")
        made.append(nvrtc._NVRTCProgram(source, "kernel.cu", method="cubin").compile(options)[0])
        return function.Module()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvrtc, "_compile_module_with_cache", compile_it)
        core.compile_with_cache(code, (), arch=architecture)
    return made[0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("module", "name", "arrays", "numbers"), FUSED, ids=[entry[1] for entry in FUSED])
def test_kernels_compile(module: str, name: str, arrays: int, numbers: int, dtype: str, nvrtc: Any) -> None:
    code = code_of(*traced(module, name, arrays, numbers, dtype))
    for architecture in ARCHITECTURES:
        assert compiled(nvrtc, code, architecture)[:4] == b"\x7fELF"


def test_what_does_not_compile_is_found(nvrtc: Any) -> None:
    """A kernel of a name that C has: CuPy names a kernel after its formula unless told otherwise."""
    code = code_of(*traced("nystrom_np.activations", "tanh", 1, 0, "float32"))
    with pytest.raises(nvrtc.CompileException, match="tanh"):
        compiled(nvrtc, code.replace("fused_tanh", "tanh"), "90")


def test_no_kernel_is_written_by_hand() -> None:
    """Otherwise it is to be compiled here too."""
    makers = {"RawKernel", "RawModule", "ElementwiseKernel", "ReductionKernel"}
    found = {
        f"{file}:{node.lineno}"
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name) and getattr(node, "attr", getattr(node, "id", "")) in makers
    }
    assert found == set()
