"""What JAX's compiler has to be told before it starts: that of JAX 0.10 gets some sums on CPU wrong.

It gives them to a library, YNNPACK, and loses terms: 0.10.0 and 0.10.1 of numbers that were converted and reshaped (of
ones in an int32 [10, 1000, 33], 94 % of them), 0.10.2 of squared products of matrices (jax-ml/jax#39103). Without the
library all are right. tests/test_compiler.py has these sums.
"""

import os
import sys
import warnings
from importlib import metadata

FLAG = "xla_cpu_experimental_ynn_fusion_type"


def without_ynnpack() -> None:
    """Has the compiler of JAX 0.10 do without YNNPACK, unless XLA_FLAGS says what to do with it.

    XLA reads its flags once, when JAX first computes: hence this at the import of `ae_jax`, and a warning where it
    comes too late. Later releases are left as they are: 0.11 and 0.12 do these sums right.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG in flags or not metadata.version("jaxlib").startswith("0.10."):
        return
    os.environ["XLA_FLAGS"] = f"{flags} --{FLAG}=".strip()
    bridge = sys.modules.get("jax._src.xla_bridge")  # not there before jax is imported
    if bridge and bridge.backends_are_initialized():
        warnings.warn(
            "JAX has computed before ae_jax was imported, too late to tell it to do without YNNPACK, which gets some "
            f"sums on CPU wrong in JAX 0.10: import ae_jax first, or set XLA_FLAGS=--{FLAG}=",
            RuntimeWarning,
            stacklevel=3,
        )
