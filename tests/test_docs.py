"""The pages hold together without being built: every name, recipe, link and formula is there."""

import ast
import importlib
import pkgutil
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml

import priory
from priory.recipes import RECIPES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HEADINGS = (
    *("Idea", "Generative process", "Guide", "Objective", "What it is for", "What goes wrong"),
    *("Exact check", "Obtained beside published", "Run it"),
)
MADE = ("api", "families", "gallery", "tutorials")  # folders that a build writes
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


@pytest.fixture(scope="module")
def extension():
    """Import a module of the pages' own extensions."""
    sys.path.insert(0, str(DOCS / "_ext"))
    yield importlib.import_module
    sys.path.remove(str(DOCS / "_ext"))


def test_the_configuration_is_read_and_asks_for_nothing_from_outside(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = runpy.run_path(str(DOCS / "conf.py"))
    assert found["release"] == priory.__version__
    assert found["html_math_renderer"] == "mathml"
    own = [e for e in found["extensions"] if (DOCS / "_ext" / f"{e}.py").exists()]
    assert {*own} == {"docstrings", "generate", "llms", "mathml", "scraper", "titles"}
    text = (DOCS / "conf.py").read_text() + (DOCS / "_static" / "priory.css").read_text()
    assert "http" not in text
    assert found["sphinx_gallery_conf"]["gallery_dirs"] == ["tutorials", "gallery"]
    for folder in (DOCS / "learn", ROOT / "examples"):
        assert (folder / "GALLERY_HEADER.rst").exists()


def test_every_public_name_is_in_the_reference(extension):
    api = extension("api")
    pages = api.public()
    assert [*pages] == [*api.PACKAGES]
    there = {
        id(getattr(importlib.import_module(package), name))
        for package, names in pages.items()
        for name in names
    }
    walked = pkgutil.walk_packages(priory.__path__, "priory.")
    for package in ["priory", *(m.name for m in walked if m.ispkg and m.name != "priory.cli")]:
        module = importlib.import_module(package)
        names = getattr(module, "__all__", None) or []
        missing = [name for name in names if id(getattr(module, name)) not in there]
        assert not missing, f"{package}: {missing} are on no page of docs/_ext/api.py"
    text = api.page("priory.priors", pages["priory.priors"])
    assert ".. autoclass:: priory.priors.VampPrior" in text
    assert "``stick-breaking``" in text  # a table's names


def test_every_recipe_has_a_page_with_all_that_it_should_say(extension):
    families = extension("families")
    pages = families.pages()
    assert [*pages] == [*RECIPES]
    for name, text in pages.items():
        parts = re.split(r"^(.+)\n-{4,}\n", text, flags=re.M)
        assert tuple(parts[1::2]) == HEADINGS, name
        assert all(part.strip() for part in parts[2::2]), name
        assert "def model(self" in text, name
        assert "def guide(self" in text, name
        assert f"priory fit {name} " in text, name
    index = families.index()
    assert all(f":doc:`{name}`" in index for name in RECIPES)


def test_the_words_of_the_recipes_name_tests_and_rows_that_there_are(extension):
    families = extension("families")
    said, tables = families.words(), extension("benchmarks.readme").tables()
    assert {*said} == {*RECIPES}, "docs/families.yaml has words for each recipe, and no others"
    for name, words in said.items():
        assert {*words} - {"measured"} == {"idea", "for", "wrong", "check"}, name
        for check in words["check"]:
            file, _, test = check.partition(".")
            body = ast.parse((ROOT / "tests" / f"test_{file}.py").read_text()).body
            assert f"test_{test}" in {getattr(node, "name", "") for node in body}, check
        for mark, firsts in words.get("measured", {}).items():
            for first in firsts:
                assert families.matching(tables[mark], [first]), f"{name}: {mark} has no {first}"


def test_rows_are_found_by_their_first_cells(extension):
    table = "| a | b |\n| --- | --- |\n| x | 1 |\n| x y | 2 |\n| x | 3 |"
    matching = extension("families").matching
    assert matching(table, ["x"]) == [["a", "b"], ["x", "1"], ["x", "3"]]
    assert matching(table, ["x*"])[1:] == [["x", "1"], ["x y", "2"], ["x", "3"]]
    assert matching(table, ["x | 3"])[1:] == [["x", "3"]]
    assert matching(table, ["z"]) == []


def slugs(page):
    """The anchors of a page's headings, as GitHub and the build make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        folder, _, name = path.partition("/")
        if page.parent == DOCS and folder in MADE:
            scripts = {p.stem for p in (DOCS / "learn").glob("*.py")}
            assert name in {"index"} | (scripts if folder == "tutorials" else set()), target
            continue
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in slugs(there), target


def test_every_page_is_in_a_contents():
    listed = {
        line.strip()
        for page in DOCS.glob("*.md")
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.M | re.S)
        for line in block.splitlines()
    }
    assert {page.stem for page in DOCS.glob("*.md")} - listed == {"index"}
    assert {f"{folder}/index" for folder in MADE} <= listed


def test_the_prose_of_docstrings_has_no_markup(extension):
    docstrings = extension("docstrings")
    assert docstrings.escaped("|a - b| of x_ * `c|d*`") == r"\|a - b\| of x\_ \* `c|d*`"
    lines = [
        "a*b",
        ".. math:: x * y",
        "   | z",
        "",
        "c*d `e",
        "*f` g*",
        ">>> h * i",
        "",
        "x::",
        "",
        "  *",
    ]
    expected = [r"a\*b", *lines[1:4], r"c\*d `e", r"*f` g\*", *lines[6:]]
    assert docstrings.plain(lines) == expected
    assert docstrings.first_sentence("One of *two*. And more.\n\nx") == r"One of \*two\*."


def test_scripts_have_a_title(extension):
    titled = extension("titles").titled
    page = ".. _sphx_glr_gallery_01.py:\n\nA first model: define it.\n\nMore.\n"
    expected = page.replace("A first", "A first model\n=============\n\nA first", 1)
    assert titled(page) == expected
    assert titled(expected) == expected
    assert titled("No label.\n") == "No label.\n"


def formulas():
    for path in sorted((ROOT / "src" / "priory").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                blocks = r"^( *)\.\. math::(.*(?:\n(?:\1 +.*| *$))*)"
                yield from ((m[2].strip(), True) for m in re.finditer(blocks, text, re.M))
                yield from ((tex, False) for tex in re.findall(r":math:`([^`]*)`", text))


def test_every_formula_is_drawn_without_a_script(extension):
    pytest.importorskip("docutils")
    mathml = extension("mathml").mathml
    drawn = [mathml(tex, block) for tex, block in formulas()]
    assert len(drawn) > 300
    assert all(text.strip().startswith("<math") for text in drawn)
    assert "…" in mathml(r"x_1, \dots, x_n", False)


def test_words_are_yaml_that_reads_the_same_again():
    text = (DOCS / "families.yaml").read_text(encoding="utf-8")
    names = re.findall(r"^([\w-]+):$", text, re.M)
    assert len(names) == len(yaml.safe_load(text)), "a recipe's words stand twice"
