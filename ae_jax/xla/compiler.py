"""What JAX's compiler has to be told before it starts, on CPU.

Do without YNNPACK in JAX 0.10, which gets some sums wrong by it: 0.10.0 and 0.10.1 of numbers that were converted and
reshaped (of ones in an int32 [10, 1000, 33], 94 % of them), 0.10.2 of squared products of matrices (jax-ml/jax#39103).
Without the library all are right. tests/test_compiler.py has these sums.

Use vectors of 512 bits where the processor has them and its clock does not mind (Intel since Cooper Lake, AMD since
Zen 4), where the compiler by itself keeps to 256: 5 to 7 % of training most nets here, and the same bits.
"""

import os
import sys
import warnings
from importlib import metadata
from pathlib import Path

LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
WIDTH = "xla_cpu_prefer_vector_width"
CPUINFO = Path("/proc/cpuinfo")


def tell_compiler() -> None:
    """Adds to XLA_FLAGS what is not there yet, for the releases of JAX that are known to take it.

    XLA reads its flags once, when JAX first computes: hence this at the import of `ae_jax`, and a warning where a
    needed one comes too late. YNNPACK is left to later releases: 0.11 and 0.12 do these sums right.
    """
    release = metadata.version("jaxlib").split(".")[:2]
    flags = {LIBRARY: ""} if release == ["0", "10"] else {}
    if release in (["0", "10"], ["0", "11"], ["0", "12"]) and wide_vectors():  # an unknown flag ends the process
        flags[WIDTH] = "512"
    told = os.environ.get("XLA_FLAGS", "")
    if added := [f"--{name}={value}" for name, value in flags.items() if name not in told]:
        os.environ["XLA_FLAGS"] = " ".join([*told.split(), *added])
    bridge = sys.modules.get("jax._src.xla_bridge")  # not there before jax is imported
    if LIBRARY in flags and LIBRARY not in told and bridge and bridge.backends_are_initialized():
        warnings.warn(
            "JAX has computed before ae_jax was imported, too late to tell it to do without YNNPACK, which gets some "
            f"sums on CPU wrong in JAX 0.10: import ae_jax first, or set XLA_FLAGS=--{LIBRARY}=",
            RuntimeWarning,
            stacklevel=3,
        )


def wide_vectors() -> bool:
    """Whether Linux names this processor's AVX-512 with bfloat16, which came when its vectors no longer slowed it."""
    try:
        with CPUINFO.open() as lines:
            return "avx512_bf16" in next((line for line in lines if line.startswith("flags")), "").split()
    except OSError:
        return False
