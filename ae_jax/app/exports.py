"""The files beside exported programs: a loader and a README, for readers without this package."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import RunError

LOADER, README, SIGNATURE = "load.py", "README.md", "signature.json"
NAMES = {"encoder": "encode", "decoder": "decode"}  # program -> its function in the loader

Shapes = Mapping[str, tuple[Sequence[int], Sequence[int]]]  # program -> the shapes of one example in and out


def check_own(folder: Path) -> None:
    """Raises RunError where the folder has a README.md or load.py that ae_jax did not write."""
    there = [name for name in (README, LOADER) if (folder / name).exists()]
    if there and not (folder / SIGNATURE).exists():
        raise RunError(f"{folder} has a {there[0]} that no export wrote: name another folder")


def loader(programs: Sequence[str]) -> str:
    """The source of a short module that loads the programs in its folder as functions. It needs jax and flatbuffers."""
    what = " and ".join(f"`{NAMES[name]}`" for name in programs)
    lines = [
        f'"""{what}: functions of float32 arrays, for any number of examples. See README.md."""',
        "from pathlib import Path",
        "from jax import export",
        "",
        "def load(name):",
        '    """The program in NAME.stablehlo as a function."""',
        "    return export.deserialize(bytearray(Path(__file__).with_name(f'{name}.stablehlo').read_bytes())).call",
        "",
        *(f"{NAMES[name]} = load('{name}')" for name in programs),
    ]
    return "\n".join(lines) + "\n"


def readme(programs: Shapes, run: str, jax: str, values: str) -> str:
    """The README of an export: the inputs and outputs of its programs, an example call, and the platforms.

    `run` describes the run in a few words, `values` gives the units of examples, `jax` is the version of JAX.
    """
    shown = lambda shape: f"[b, {', '.join(map(str, shape))}]"
    rows = [
        f"| `{name}.stablehlo` | `{NAMES[name]}` | float32 {shown(taken)} | float32 {shown(given)} |"
        for name, (taken, given) in programs.items()
    ]
    first, (taken, _) = next(iter(programs.items()))
    size = ", ".join(map(str, taken))
    return f"""# {run}

Programs of a trained autoencoder as StableHLO, with its parameters inside, for any number of examples b, on CPU, CUDA
and TPU. Examples have {values}.

| file | function of `load.py` | takes | gives |
| --- | --- | --- | --- |
{chr(10).join(rows)}

They need `pip install jax flatbuffers`, and no other package:

```python
import numpy as np
from load import {NAMES[first]}

print({NAMES[first]}(np.zeros((3, {size}), np.float32)).shape)
```

JAX {jax} wrote them; later versions read them for at least six months. `signature.json` has the shapes and every
setting of the run. Other readers of StableHLO take `export.deserialize(...).mlir_module()`. ONNX is not written.
"""
