"""The layout of the package: which module may import which, and what `import ae_jax` offers."""

import ast
import importlib
from pathlib import Path

import pytest
from flax import linen as nn

import ae_jax
from ae_jax import core

PACKAGE = Path(ae_jax.__file__).parent
# Imports go down this list. The pure ones read no flag, file, clock or global.
LAYERS = ["__main__", "__init__", "app", "training", "algorithms", "evaluation", "networks", "objectives"]
LAYERS += ["distributions", "data", "corruption", "optimizers", "xla", "core", "checks", "errors"]
PURE = {
    "algorithms",
    "evaluation",
    "networks",
    "objectives",
    "distributions",
    "corruption",
    "optimizers",
    "core",
    "checks",
}
IMPURE = {"os", "sys", "time", "argparse", "logging", "datetime", "pathlib", "subprocess", "random", "tyro", "tqdm"}
ONLY = {"flax": "networks", "tensorflow_datasets": "data", "orbax": "training"}  # the only importer


def imports(path):
    """The modules that a file imports, anywhere in it; those of this package as absolute names."""
    package = ["ae_jax", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, node.module] if node.module else base
            yield ".".join(base)
            if base == ["ae_jax"]:
                yield from (f"ae_jax.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_layers(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    found = set(imports(path))
    outside = {name.split(".")[0] for name in found}
    inside = {name.split(".")[1] for name in found if name.startswith("ae_jax.")} & set(LAYERS)
    above = {name for name in inside if LAYERS.index(name) < LAYERS.index(part)}
    assert not above, f"{part} imports {sorted(above)}, which lie above it"
    for package, owner in ONLY.items():
        assert package not in outside or part == owner, f"only {owner} imports {package}"
    if part in PURE:
        assert not outside & IMPURE, "a pure module reads no flag, file, clock or global"
    if part == "algorithms" and path.name != "__init__.py":
        assert not {name for name in found if name.startswith("ae_jax.algorithms")}, "no algorithm imports another"
        assert "networks" not in inside, "a network is an argument"
        assert len(path.read_text().splitlines()) <= 100


def test_every_part_of_the_package_has_its_layer():
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__pycache__", "py.typed"} == set(LAYERS)
    assert set(ae_jax.FOLDERS) | set(ae_jax.FILES) == set(LAYERS) - {"__main__", "__init__"}


def test_the_walk_sees_relative_imports():
    assert "ae_jax.core" in set(imports(PACKAGE / "algorithms" / "vae.py"))
    assert "flax" in {name.split(".")[0] for name in imports(PACKAGE / "networks" / "mlp.py")}


def test_core_is_short():
    assert len((PACKAGE / "core.py").read_text().splitlines()) <= 335


def test_the_package_has_its_vocabulary_by_name():
    assert ae_jax.fit is core.fit
    assert ae_jax.vae is ae_jax.algorithms.vae
    assert {"Batch", "algorithms", "corrupted", "plots", *ae_jax.algorithms.ALGORITHMS} <= set(dir(ae_jax))
    assert all(getattr(ae_jax, name) is not None for name in dir(ae_jax) if not name.startswith("_"))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ae_jax.nothing  # noqa: B018


def records_by_position(module, tree):
    """(line, record) of the calls of records of more than four fields with more than two positional arguments.

    Flax's modules are dataclasses, and no records.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.args) <= 2:
            continue
        names, called = ast.unparse(node.func).split("."), module
        for name in names:
            called = getattr(called, name, None)
        fields = getattr(called, "_fields", getattr(called, "__dataclass_fields__", ()))
        if isinstance(called, type) and len(fields) > 4 and not issubclass(called, nn.Module):
            yield node.lineno, called.__name__


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_large_record_is_built_by_position(path):
    if path.name == "__main__.py":
        return
    parts = ["ae_jax", *path.relative_to(PACKAGE).with_suffix("").parts]
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    assert list(records_by_position(module, ast.parse(path.read_text()))) == []


def test_the_walk_of_records_sees_them():
    found = records_by_position(core, ast.parse("Algorithm(1, 2, 3)\nBatch(1, 2)\nAlgorithm(1, 2, evaluate=3)"))
    assert list(found) == [(1, "Algorithm")]


def test_scripts_and_experiments_build_no_large_record_by_position():
    root = PACKAGE.parent
    programs = [*(root / "scripts").glob("*.py"), *(root / "experiments").glob("*.py")]
    trees = {path: ast.parse(path.read_text()) for path in [*PACKAGE.rglob("*.py"), *programs]}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    fields = {one.name: sum(isinstance(line, ast.AnnAssign) for line in one.body) for one in classes}
    assert min(fields[name] for name in ("Case", "Mutant", "Algorithm")) > 4
    for path in programs:
        for node in ast.walk(trees[path]):
            if isinstance(node, ast.Call) and len(node.args) > 2:
                record = ast.unparse(node.func).split(".")[-1]
                assert fields.get(record, 0) <= 4, f"{path}:{node.lineno} builds {record} by position"
