"""Who may import whom, read from the sources: the rules of the house, and a test of the reader itself."""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import keras_kd

PACKAGE = "keras_kd"
MAX_LINES = 320

# A name stands for the module and all that is under it; "" is the package's own `__init__`.
MAY_IMPORT_OF_THE_PACKAGE = {
    "losses": {"losses"},
    "backup": {"seeds", "whole_files"},
    "batches": set(),
    "finite": {"signals"},
    "finite_steps": {"finite", "replay", "signals"},
    "global_batch": {"objectives", "signals", "weighing"},
    "grafting": {"taps"},
    "inputs": set(),
    "listening": set(),
    "locking": set(),
    "projectors": set(),
    "pruning": set(),
    "scalars": set(),
    "schedules": set(),
    "seeds": set(),
    "outcomes": {"losses"},
    "signals": {"outcomes"},
    "replay": {"outcomes", "signals"},
    "weighing": set(),
    "whole_files": set(),
    "wording": set(),
    "workers": {"backup", "batches"},
    "taps": {"listening", "signals"},
    "array_functions": {"batches"},
    "litert": set(),
    "foreign": {"array_functions", "litert", "wording"},
    "teachers": {"foreign", "inputs", "signals", "taps"},
    "probabilities": {"signals", "teachers"},
    "objectives": {"grafting", "losses", "objectives", "projectors", "scalars", "signals", "taps", "weighing"},
    "cache": {
        "cache",
        "foreign",
        "locking",
        "outcomes",
        "probabilities",
        "replay",
        "signals",
        "taps",
        "teachers",
        "wording",
    },
    "data": {"data", "wording"},
    "export": {
        "export",
        "inputs",
        "litert",
        "locking",
        "plots",
        "probabilities",
        "quantization",
        "signals",
        "teachers",
    },
    "modalities": {"modalities", "scalars"},
    "quantization": {"quantization", "scalars"},
    "page": {"page"},
}
MAY_IMPORT_OF_OTHERS = {"losses": {"keras"}}
# What an extra installs may be missing, and only who needs it may say so.
MAY_IMPORT_EXTRAS = {"apache_beam": {"cache.beam"}}
MAY_IMPORT_DISTILLER = {"", "adversarial", "assistants", "cli", "data_free", "demo", "robust"}
MAY_IMPORT_TENSORFLOW = {
    *("adversarial", "array_functions", "batches", "cache", "cli", "data", "data_free", "demo", "distiller", "export"),
    *(
        "finite",
        "finite_steps",
        "foreign",
        "global_batch",
        "litert",
        "preparation",
        "quantization",
        "robust",
        "workers",
    ),
}


def name_of(path: str) -> str:
    """`losses/__init__.py` -> `losses`."""
    return ".".join(part for part in path.removesuffix(".py").split("/") if part != "__init__")


def top(module: str) -> str:
    return module.split(".")[0]


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from statements(node)


def imported(path: str, source: str) -> Iterator[str]:
    """Absolute dotted names, `a.b` for `from a import b`."""
    parents = [PACKAGE, *path.split("/")[:-1]]
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own_imports(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules of the package that each of them imports."""
    modules = {name_of(path) for path in sources}

    def resolve(dotted: str) -> str:
        parts = dotted.split(".")[1:]
        while parts and ".".join(parts) not in modules:
            parts.pop()
        return ".".join(parts)

    return {
        name_of(path): {resolve(name) for name in imported(path, source) if top(name) == PACKAGE}
        for path, source in sources.items()
    }


def cycles(graph: Mapping[str, set[str]]) -> Iterator[str]:
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> Iterator[str]:
        if module in trail:
            circle = trail[trail.index(module) :]
            first = circle.index(min(circle))
            yield " -> ".join([*circle[first:], *circle[:first], circle[first]])
        elif module not in done:
            for other in sorted(graph.get(module, ())):
                yield from visit(other, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        yield from visit(module, [])


def violations(sources: Mapping[str, str]) -> list[str]:
    """Every rule that a package of these sources breaks."""
    graph = own_imports(sources)
    found = [f"cycle: {cycle}" for cycle in cycles(graph)]
    for path, source in sources.items():
        module, area = name_of(path), top(name_of(path))
        own = graph[module]
        if area in MAY_IMPORT_OF_THE_PACKAGE:
            refused = {name for name in own if top(name) not in MAY_IMPORT_OF_THE_PACKAGE[area]}
            found += [f"{path}: imports {PACKAGE}.{name}".rstrip(".") for name in sorted(refused)]
        elif area not in MAY_IMPORT_DISTILLER and own & {"", "distiller"}:
            found.append(f"{path}: imports the distiller")
        others = {top(name) for name in imported(path, source)} - sys.stdlib_module_names - {PACKAGE}
        if "tensorflow" in others and area not in MAY_IMPORT_TENSORFLOW:
            found.append(f"{path}: imports tensorflow")
        refused = others - MAY_IMPORT_OF_OTHERS.get(area, others) - {"tensorflow"}
        found += [f"{path}: imports {name}" for name in sorted(refused)]
        extras = {name for name in others if module not in MAY_IMPORT_EXTRAS.get(name, {module})}
        found += [f"{path}: imports {name}" for name in sorted(extras)]
        found += [
            f"{path}: imports {PACKAGE}.{name}" for name in sorted(own & set().union(*MAY_IMPORT_EXTRAS.values()))
        ]
        lines = len(source.splitlines())
        if lines > MAX_LINES:
            found.append(f"{path}: {lines} lines")
    return found


def test_the_package_keeps_the_rules_of_the_house():
    root = Path(keras_kd.__file__).parent
    sources = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(root.rglob("*.py"))}
    assert {"distiller.py", "losses/logits.py", "objectives/__init__.py"} <= set(sources)
    assert violations(sources) == []


GOOD = {
    "__init__.py": "from keras_kd import losses\nfrom keras_kd.distiller import Distiller",
    "losses/__init__.py": "from keras_kd.losses.logits import kl",
    "losses/logits.py": "import math\nfrom keras import ops",
    "signals.py": "import keras",
    "taps.py": "import numpy\nfrom keras_kd.signals import Signals",
    "teachers.py": "from .taps import forward",
    "preparation.py": "import typing\nif typing.TYPE_CHECKING:\n    from keras_kd.distiller import Distiller",
    "distiller.py": "import tensorflow as tf\nfrom keras_kd import preparation, teachers",
    "cli/__init__.py": "def main():\n    import keras_kd",
    "cache/beam.py": "import apache_beam",
    "export/__init__.py": "import tensorflow.lite",
}


def test_the_reader_lets_good_sources_through():
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("losses/logits.py", "from keras_kd.taps import forward", "losses/logits.py: imports keras_kd.taps"),
        ("losses/logits.py", "from keras_kd import taps", "losses/logits.py: imports keras_kd.taps"),
        ("losses/logits.py", "from ..taps import forward", "losses/logits.py: imports keras_kd.taps"),
        ("losses/logits.py", "from .. import taps", "losses/logits.py: imports keras_kd.taps"),
        ("losses/logits.py", "import numpy as np", "losses/logits.py: imports numpy"),
        ("losses/logits.py", "from . import kl", "cycle: losses -> losses.logits -> losses"),
        ("signals.py", "def f():\n    import keras_kd.taps", "cycle: signals -> taps -> signals"),
        ("signals.py", "try:\n    import tensorflow.keras\nexcept ImportError: pass", "signals.py: imports tensorflow"),
        ("taps.py", "from keras_kd.teachers import Teacher", "taps.py: imports keras_kd.teachers"),
        ("preparation.py", "from keras_kd.distiller import Distiller", "preparation.py: imports the distiller"),
        ("cache/store.py", "from keras_kd import Distiller", "cache/store.py: imports keras_kd"),
        ("cache/store.py", "import apache_beam as beam", "cache/store.py: imports apache_beam"),
        ("cache/__init__.py", "from keras_kd.cache.beam import X", "cache/__init__.py: imports keras_kd.cache.beam"),
        ("export/tflite.py", "from keras_kd.losses import kl", "export/tflite.py: imports keras_kd.losses"),
        ("data/sets.py", "import keras_kd", "data/sets.py: imports keras_kd"),
        ("plots.py", "x = 1\n" * 321, "plots.py: 321 lines"),
    ],
)
def test_the_reader_finds_a_bad_import(path, source, expected):
    assert expected in violations({**GOOD, path: source})
