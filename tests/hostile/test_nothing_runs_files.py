"""No module of the package has a way to run what a file holds, read from the sources."""

import ast
from pathlib import Path

import keras_kd

RUNS_FILES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "torch", "runpy"}
TRUSTING = {"allow_pickle": True, "safe_mode": False, "shell": True}
CALLS = {"eval", "exec", "compile_command", "enable_unsafe_deserialization", "load_source", "load_weights_from_pickle"}


def found_in(source):
    """What a source imports, calls and asks for that would run a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"imports {alias.name}" for alias in node.names if alias.name.split(".")[0] in RUNS_FILES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in RUNS_FILES:
            yield f"imports {node.module}"
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", None))
            if name in CALLS:
                yield f"calls {name}"
            for keyword in node.keywords:
                given = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in TRUSTING and given is TRUSTING[keyword.arg]:
                    yield f"says {keyword.arg}={given}"


def test_no_source_does():
    root = Path(keras_kd.__file__).parent
    sources = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in root.rglob("*.py")}
    assert len(sources) > 150
    assert {name: found for name, source in sources.items() if (found := list(found_in(source)))} == {}


def test_the_reader_sees_what_would():
    source = (
        "import pickle, numpy as np\nfrom torch.serialization import load\n"
        "def f(p):\n    np.load(p, allow_pickle=True)\n    keras.saving.load_model(p, safe_mode=False)\n    eval(p)"
    )
    assert list(found_in(source)) == [
        "imports pickle",
        "imports torch.serialization",
        "says allow_pickle=True",
        "says safe_mode=False",
        "calls eval",
    ]
