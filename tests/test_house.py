"""The house keeps its rules: the direction of imports, documentation, a front door that opens."""

import ast
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pyro
import pytest
import torch

import priory

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "priory"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = (ROOT / "examples", ROOT / "docs" / "learn")
EXAMPLES = [path for folder in SCRIPTS for path in sorted(folder.glob("*.py"))]

# What each part may import of the others; all stand on the ground.
GROUND = {"lookup", "serialisation"}
HEADS = GROUND | {"registry", "part", "distributions"}
PARTS = HEADS | {"likelihoods", "posteriors", "nets", "divergences", "data", "priors"}
MAY_IMPORT = {
    "lookup": set(),
    "serialisation": {"lookup", "registry"},
    "registry": set(),
    "part": set(),
    "distributions": set(),
    "likelihoods": HEADS,
    "posteriors": HEADS,
    "nets": HEADS | {"likelihoods", "posteriors"},
    "divergences": GROUND | {"registry"},
    "data": GROUND | {"registry"},
    "priors": HEADS | {"nets"},
    "models": PARTS,
    "inference": PARTS,
    "evaluation": PARTS | {"models", "inference"},
    "onnx": PARTS | {"models", "inference", "evaluation"},
    "sklearn": PARTS | {"inference", "evaluation", "parsing", "signatures", "recipes", "onnx"},
    "signatures": set(),
    "parsing": PARTS | {"inference", "evaluation", "signatures"},
    "recipes": PARTS | {"models", "inference", "evaluation", "parsing", "signatures"},
    "comparison": PARTS | {"models", "inference", "evaluation", "parsing", "signatures", "recipes"},
    "cli": PARTS
    | {"models", "inference", "evaluation", "parsing", "signatures", "recipes", "comparison"}
    | {"onnx"},
    "__main__": {"cli"},
}

# The same among the rooms of the inference; what is not named here stands on all of them.
ROOMS = {
    "alone": set(),
    "randomness": {"alone"},
    "distributed": set(),
    "phases": {"distributed"},
    "modules": {"phases"},
    "objectives": {"phases", "modules", "distributed"},
    "engine": {"phases", "objectives", "randomness", "distributed"},
}


def where(path, node=None):
    return f"{path.relative_to(ROOT)}:{node.lineno}" if node else str(path.relative_to(ROOT))


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def part_of(path):
    """The part of the house a file belongs to, "priory" for the root `__init__`."""
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "priory" if top == "__init__" else top


def imported(path):
    """Pairs of (absolute dotted name, node) of everything that a file imports."""
    here = ("priory", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield from ((f"{module}.{alias.name}", node) for alias in node.names)


def test_every_module_is_known():
    unknown = {part_of(path) for path in SOURCES} - MAY_IMPORT.keys() - {"priory"}
    assert not unknown, f"say in MAY_IMPORT what {sorted(unknown)} may import"


def test_imports_run_one_way():
    wrong = []
    for path in SOURCES:
        part = part_of(path)
        if part == "priory":
            continue
        for name, node in imported(path):
            if name.split(".")[0] != "priory" or name == "priory.__version__":
                continue
            target = [*name.split("."), "priory"][1]
            if target != part and target not in MAY_IMPORT.get(part, ()):
                wrong.append(f"{where(path, node)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_rooms_of_the_inference_are_entered_one_way():
    home = PACKAGE / "inference"
    there = {path.relative_to(home).parts[0].removesuffix(".py") for path in home.rglob("*.py")}
    assert {*ROOMS} <= there
    wrong = []
    for path in sorted(home.rglob("*.py")):
        room = path.relative_to(home).parts[0].removesuffix(".py")
        for name, node in imported(path):
            if room in ROOMS and name.startswith("priory.inference."):
                target = name.split(".")[2]
                if target != room and target not in ROOMS[room]:
                    wrong.append(f"{where(path, node)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_a_detour():
    """Neither when it runs, nor for types, nor inside of a function."""
    paths = {}
    for path in SOURCES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(parts).removesuffix(".__init__")] = path
    graph = {}
    for module, path in paths.items():
        names = {name for name, _ in imported(path)}
        targets = {name if name in paths else name.rpartition(".")[0] for name in names}
        graph[module] = {t for t in targets if t in paths}
    assert sum(map(len, graph.values())) > len(graph)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_only_the_recorder_touches_poutine():
    wrong = []
    for path in SOURCES:
        if path == PACKAGE / "inference" / "phases" / "recorder.py":
            continue
        wrong += [
            where(path, node) for name, node in imported(path) if "poutine" in name.split(".")
        ]
        wrong += [
            where(path, node)
            for node in ast.walk(parse(path))
            if isinstance(node, ast.Attribute) and node.attr == "poutine"
        ]
    assert not wrong, f"poutine outside inference/phases/recorder.py: {wrong}"


def public(body, owner=""):
    """Pairs of (dotted name, node) of the public functions, classes and methods in a body."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            yield f"{owner}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{owner}{node.name}.")


def decorators(node):
    return {ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list}


def test_public_names_are_documented_and_typed():
    wrong = []
    for path in SOURCES:
        parts = path.relative_to(PACKAGE).parts
        if any(part.startswith("_") and part != "__init__.py" for part in parts):
            continue
        tree = parse(path)
        if not ast.get_docstring(tree):
            wrong.append(f"{where(path)} has no docstring")
        for name, node in public(tree.body):
            # Documented elsewhere: an override in its base, as a pair's programs in `Pair`, an
            # overload and a setter at their twin.
            exempt = decorators(node) & {"override", "overload", "setter"}
            exempt |= {name.split(".")[-1]} & {"model", "guide"} if parts[0] == "models" else set()
            if not exempt and not ast.get_docstring(node):
                wrong.append(f"{where(path, node)} {name} has no docstring")
            if isinstance(node, ast.ClassDef):
                special = [
                    n for n in node.body if getattr(n, "name", "") in ("__init__", "__call__")
                ]
                wrong += [
                    f"{where(path, n)} {name}.{n.name}: {bare(n)}" for n in special if bare(n)
                ]
            elif bare(node):
                wrong.append(f"{where(path, node)} {name} leaves without a type: {bare(node)}")
    assert not wrong, "\n".join(wrong)


def bare(function):
    """The names of the arguments without annotation, and "return"."""
    given = function.args
    names = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    missing = [a.arg for a in names if a and a.annotation is None and a.arg not in ("self", "cls")]
    return missing + ([] if function.returns else ["return"])


def code_lines(function, rows):
    """Count a function's lines that hold code: no blanks, comments or docstring."""
    doc = function.body[0] if ast.get_docstring(function) is not None else None
    skipped = range(doc.lineno, doc.end_lineno + 1) if doc else ()
    lines = range(function.lineno, function.end_lineno + 1)
    texts = (rows[n - 1].strip() for n in lines if n not in skipped)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def test_functions_fit_in_mind():
    long = {}
    for path in SOURCES:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = code_lines(node, text.splitlines())
                if count > 60:
                    long[f"{where(path)}:{node.name}"] = count
    assert not long, f"over 60 lines of code, look for a seam: {long}"


CHECKS = ("raises", "warns", "gradcheck", "fail")


def claims(node, helpers):
    """Whether code asserts anything outside of what it does on an exception."""
    if isinstance(node, ast.Assert):
        return True
    if isinstance(node, ast.ExceptHandler):
        return False
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name.startswith("assert_") or name in CHECKS or name in helpers:
            return True
    return any(claims(child, helpers) for child in ast.iter_child_nodes(node))


def test_every_test_asserts():
    idle = []
    for path in sorted((ROOT / "tests").glob("*.py")):
        functions = [
            n for n in ast.walk(ast.parse(path.read_text())) if hasattr(n, "decorator_list")
        ]
        tests = [f for f in functions if f.name.startswith("test")]
        helpers = set()
        for _ in range(3):  # helpers of helpers
            helpers |= {f.name for f in functions if f not in tests and claims(f, helpers)}
        idle += [f"{path.name}:{f.lineno} {f.name}" for f in tests if not claims(f, helpers)]
    assert not idle, f"tests that assert nothing: {idle}"


@pytest.mark.parametrize(("page", "count"), [("README.md", 1), ("docs/tour.md", 3)])
def test_page_runs(page, count, tmp_path, monkeypatch, no_pixels):
    """With few rows to judge."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    text, found = re.subn(r"(evaluate\(\w+|\bmetrics=\[.*?\])", r"\1, limit=30", text)
    assert found == count
    monkeypatch.setattr("priory.comparison.fits.default_jobs", lambda: 1)
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert blocks, f"{page} has no python block"
    namespace = {"__name__": "readme"}
    for block in blocks:
        # Padded, so that a traceback names the page's own line.
        padding = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(padding + block[1], page, "exec"), namespace)


def test_examples_are_there():
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_runs(path, tmp_path, monkeypatch, capsys, no_pixels):
    """By a few of its steps, and all else that it does."""
    text = path.read_text()
    assert len(text.splitlines()) < (80 if path.parent.name == "examples" else 100)
    number = r"(?i:steps|epochs|particles)\"? ?[=:] ?\"?"
    long = rf"({number}|range\(|len\(train\), \()\d{{2,}}"
    few, count = re.subn(long, r"\g<1>9", text)
    assert count, "the example trains"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("priory.comparison.fits.default_jobs", lambda: 1)  # no processes
    with pyro.get_param_store().scope(), torch.random.fork_rng():
        exec(compile(few, path.name, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip(), "an example shows something"


def test_every_fault_in_the_table_has_its_tests():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("what happens | tests |")[2].splitlines()[2:] if line]
    assert len(rows) >= 30
    named = [re.findall(r"`(test_\w+)`", row.split("|")[3]) for row in rows]
    assert all(named), "a row without a test"
    nodes = [node for path in (ROOT / "tests").glob("test_*.py") for node in parse(path).body]
    there = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    assert not {name for names in named for name in names} - there


# Not used in what is printed, nor in the pages: the field has other words for it.
UNUSED = re.compile(
    r"\b(dream(s|t|ed|ing)?|laws?|robbed|heed(s|ed)?|greys?|told)\b"
    r"|\b(whole numbers?|not finite|in words)\b"
    r"|\b[pq]\([^()]* given [^()]*\)",
    re.IGNORECASE,
)
# Options, files and other names that stand in texts; a word alone, such as a key, is none either.
NAMES_IN_TEXTS = re.compile(r"`[^`]+`|\w+/\S+|\bdraws\.dreams\b|\"dreams\"")


def printed(path):
    """Pairs of a line and a string of a file, docstrings and single words left out."""
    tree = parse(path)
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [n.body for n in ast.walk(tree) if isinstance(n, owners)]
    notes = {id(s.value) for body in bodies for s in body if isinstance(s, ast.Expr)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and id(node) not in notes and not text.isidentifier():
            yield node.lineno, text


def test_texts_use_the_words_of_the_field():
    texts = [(f"{where(path)}:{line}", text) for path in SOURCES for line, text in printed(path)]
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        lines = page.read_text(encoding="utf-8").splitlines()
        texts += [(f"{where(page)}:{n}", line) for n, line in enumerate(lines, 1)]
    assert len(texts) > 1000
    found = [
        f"{place}: {word[0]!r} in {text.strip()!r}"
        for place, text in texts
        for word in UNUSED.finditer(NAMES_IN_TEXTS.sub("", text))
    ]
    assert not found, "\n".join(found)


def test_import_has_no_side_effects(tmp_path):
    """Dependencies come first: what they do at their own import is theirs."""
    script = """
        import importlib, logging, os, pkgutil, random, sys, warnings
        import joblib, matplotlib.figure, numpy, pooch, pyro, rich
        import safetensors.torch, scipy.stats, sklearn.datasets, torch, torch.distributions, yaml

        def state():
            names = [None, *logging.root.manager.loggerDict]
            loggers = [logging.getLogger(name) for name in names]
            return {
                "pyro's and torch's validation": pyro.settings.get(),
                "default dtype": torch.get_default_dtype(),
                "threads": torch.get_num_threads(),
                "gradient mode": torch.is_grad_enabled(),
                "random state": (
                    torch.get_rng_state().tolist(),
                    numpy.random.get_state()[1].tolist(),
                    random.getstate(),
                ),
                "log handlers": {(l.name, id(h)) for l in loggers for h in l.handlers},
                "log level": logging.getLogger().level,
                "warnings' filters": list(warnings.filters),
                "parameter store": sorted(pyro.get_param_store()),
                "environment": dict(os.environ),
                "backend": dict.__getitem__(matplotlib.rcParams, "backend"),
            }

        def watch(event, arguments):
            if event == "socket.connect":
                faults.append("opens a connection")
            if event == "open" and isinstance(arguments[2], int):
                if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    faults.append(f"writes {arguments[0]}")

        faults = []
        before = state()
        optional = {"zuko", "pandas", "pyarrow"} - set(sys.modules)
        sys.addaudithook(watch)
        import priory
        for module in pkgutil.walk_packages(priory.__path__, "priory."):
            importlib.import_module(module.name)
        after = state()
        faults += [f"changes {name}" for name in before if before[name] != after[name]]
        faults += [f"imports {name}" for name in sorted(optional & set(sys.modules))]
        print("; ".join(faults))
    """
    done = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip(), f"importing priory {done.stdout.strip()}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["models", "inference"])
def test_front_door_links(name):
    link = ROOT / name
    assert link.is_symlink()
    assert os.readlink(link) == f"src/priory/{name}"
    assert link.resolve() == PACKAGE / name
    assert link.is_dir()


BUILT = {"_build", "api", "families", "gallery", "tutorials"}  # of docs, as `make docs` writes them


def test_tree_names_no_place_on_a_machine():
    folders = [ROOT / name for name in ("src", "docs", "examples", "benchmarks", "tests")]
    kinds = {".py", ".md", ".json", ".toml", ".yaml", ".txt", ".html", ".csv"}
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in kinds]
    front = [
        "README.md",
        "CHANGELOG.md",
        "Makefile",
        "pyproject.toml",
        "constraints.txt",
        ".ci/run",
    ]
    # A path from the root, neither the middle of a longer path nor a part of an address.
    place = re.compile(r"(?<![\w.~)}\]/*-])/(tmp|home|root|work|farm|Users|mnt)\b")
    found = [
        f"{where(path)}:{number}: {line.strip()}"
        for path in (*files, *(ROOT / name for name in front))
        if ".egg-info" not in str(path)
        and not (path.is_relative_to(ROOT / "docs") and path.parts[len(ROOT.parts) + 1] in BUILT)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if place.search(line)
    ]
    assert not found, "\n".join(found)


def test_version_stands_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == priory.__version__


def test_files_that_are_no_code_are_packaged():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {
        path for pattern in setup["package-data"]["priory"] for path in PACKAGE.glob(pattern)
    }
    there = {path for path in PACKAGE.rglob("*") if path.is_file()}
    assert {path.suffix for path in packaged} == {".typed", ".pyi", ".css", ".html", ".js"}
    assert {path for path in there if path.suffix not in (".py", ".pyc")} == packaged
