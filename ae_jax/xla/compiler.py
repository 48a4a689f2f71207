"""Flags of JAX's compiler on CPU, set before it starts.

YNNPACK is off in JAX 0.10, where it computes some sums wrongly. In 0.10.0 and 0.10.1 these are sums of numbers that
were converted and reshaped: the sum of an int32 [10, 1000, 33] of ones counts only 94 % of them. In 0.10.2 these are
sums of squared products of matrices (jax-ml/jax#39103). tests/test_compiler.py has these sums.

Vectors have 512 bits on processors that run them without a lower clock (Intel since Cooper Lake, AMD since Zen 4). The
compiler's own choice is 256 bits. 512 bits save 5 to 7 % of the training time of most networks of ae_jax, and give the
same bits.
"""

import os
import sys
import warnings
from importlib import metadata
from pathlib import Path

LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
WIDTH = "xla_cpu_prefer_vector_width"
CPUINFO = Path("/proc/cpuinfo")


def set_compiler_flags() -> None:
    """Adds the flags that XLA_FLAGS lacks, for the releases of JAX that are known to take them.

    XLA reads its flags once, when JAX first computes. So `ae_jax` calls this function when it is imported, and warns
    (RuntimeWarning) if that is too late to turn YNNPACK off. Releases 0.11 and 0.12 keep YNNPACK: their sums are right.
    """
    release = metadata.version("jaxlib").split(".")[:2]
    flags = {LIBRARY: ""} if release == ["0", "10"] else {}
    if release in (["0", "10"], ["0", "11"], ["0", "12"]) and wide_vectors():  # an unknown flag ends the process
        flags[WIDTH] = "512"
    present = os.environ.get("XLA_FLAGS", "")
    if added := [f"--{name}={value}" for name, value in flags.items() if name not in present]:
        os.environ["XLA_FLAGS"] = " ".join([*present.split(), *added])
    bridge = sys.modules.get("jax._src.xla_bridge")  # not there before jax is imported
    if LIBRARY in flags and LIBRARY not in present and bridge and bridge.backends_are_initialized():
        warnings.warn(
            "JAX has computed before ae_jax was imported, too late to turn off YNNPACK, which computes some "
            f"sums on CPU wrongly in JAX 0.10: import ae_jax first, or set XLA_FLAGS=--{LIBRARY}=",
            RuntimeWarning,
            stacklevel=3,
        )


def wide_vectors() -> bool:
    """Whether Linux lists avx512_bf16 for this processor: processors with it run 512-bit vectors at full clock."""
    try:
        with CPUINFO.open() as lines:
            return "avx512_bf16" in next((line for line in lines if line.startswith("flags")), "").split()
    except OSError:
        return False
