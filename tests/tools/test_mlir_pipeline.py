"""The linalg level means to MLIR what it means to us: its own passes, from bufferization to LLVM, give equal results."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from stepwell.compiler.backends import jit
from stepwell.compiler.backends.target import host
from stepwell.compiler.pipeline import run
from stepwell.dialects.text import OWN, print_text

pytestmark = pytest.mark.tools

LIBRARIES = "/usr/lib/llvm-22/lib"
ENTRY = "_mlir_ciface_forward"

PIPELINE = (
    "one-shot-bufferize{bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map}",
    "func.func(llvm-request-c-wrappers)", "convert-linalg-to-loops", "expand-strided-metadata", "lower-affine",
    "convert-scf-to-cf", "convert-math-to-llvm", "finalize-memref-to-llvm", "convert-arith-to-llvm",
    "convert-func-to-llvm", "convert-cf-to-llvm", "reconcile-unrealized-casts",
)  # fmt: skip
"""Nothing of ours: every step is MLIR's."""


def with_weights(module: ModuleOp, resources: Mapping[str, Any]) -> str:
    """The module without our annotations, the arrays of its dense_resource constants behind it."""
    for op in module.walk():
        for name in [n for n in op.attributes if n.partition(".")[0] in (*OWN, "stepwell")]:
            del op.attributes[name]
        if isinstance(op, FuncOp):
            op.properties.pop("arg_attrs", None)
            op.properties.pop("res_attrs", None)
    text = print_text(module)
    used = {name: array for name, array in resources.items() if f"dense_resource<{name}>" in text}
    # A blob begins with its alignment.
    blobs = ", ".join(f'"{n}": "0x04000000{np.ascontiguousarray(a).tobytes().hex()}"' for n, a in used.items())
    return f"{text}\n{{-# dialect_resources: {{ builtin: {{ {blobs} }} }} #-}}\n"


def descriptor(array: np.ndarray[Any, Any]) -> ctypes.Array[ctypes.c_int64]:
    """A memref as MLIR's C interface passes it: allocated and aligned pointer, offset, sizes, strides."""
    strides = [stride // array.itemsize for stride in array.strides]
    words = [array.ctypes.data, array.ctypes.data, 0, *array.shape, *strides]
    return (ctypes.c_int64 * len(words))(*words)


@pytest.mark.parametrize("model", ["digits", "mlp"], indirect=True)
def test_mlirs_own_passes_give_our_results(model: Any, mlir_opt: Any, mlir_translate: Any) -> None:
    expected = np.asarray(model.bound(*model.inputs))
    specialized = model.specialized()
    program = specialized.program
    run(program, target=host(), to="linalg")
    text = with_weights(program.module, program.resources)
    lowered = mlir_opt(text, f"--pass-pipeline=builtin.module({','.join(PIPELINE)})")
    # What copies between strided memrefs.
    ctypes.CDLL(str(next(Path(LIBRARIES).glob("libmlir_c_runner_utils.so*"))), ctypes.RTLD_GLOBAL)
    library, address = jit.link([jit.compile_object(mlir_translate(lowered, "--mlir-to-llvmir"), host())], ENTRY)
    positions, leaves = model.request().positions(), model.call().leaves
    arguments = [leaves[positions[where]] for where in specialized.inputs]
    result = (ctypes.c_int64 * (3 + 2 * expected.ndim))()
    passed = [descriptor(np.ascontiguousarray(a)) if isinstance(a, np.ndarray) else a for a in arguments]
    kinds = [ctypes.c_double if isinstance(a, float) else ctypes.c_void_p for a in passed]
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, *kinds)(address)(result, *passed)
    assert tuple(result[3 : 3 + expected.ndim]) == expected.shape and library is not None
    got = np.ctypeslib.as_array(ctypes.cast(result[1], ctypes.POINTER(ctypes.c_float)), expected.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
