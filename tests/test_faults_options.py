"""Requests at fault: everything that is wrong in one message, before anything is loaded or run."""

import functools
import os
import re
import subprocess
import sys
import textwrap

import pytest
import torch

from priory.cli import main
from priory.data import Data
from priory.parsing import parse
from priory.priors import PRIORS
from priory.recipes import RECIPES
from priory.signatures import Errors, options_of


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder, in which data and runs must not be touched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def unread(kept):
        @functools.wraps(kept)
        def loaded(*_, **__):
            raise AssertionError("data were loaded")

        return classmethod(loaded)

    for name in ("named", "from_file", "from_arrays"):
        monkeypatch.setattr(Data, name, unread(getattr(Data, name).__func__))
    return tmp_path


def said(capsys, *words):
    code = main(list(words))
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def shown(capsys, *words):
    """Options and what stands for their values, from a command's help."""
    _, out, _ = said(capsys, *words, "--help")
    found = re.findall(r"^  --([\w.-]+) ?(\S*)", out, re.MULTILINE)
    assert found
    return dict(found)


# Options that admit any text; those whose fault needs a value of its own; and the recipe, without
# which no other part of a comparison can be looked at.
ANY_TEXT = {"html", "json", "sha256", "recipe"}
OWN = {"out": "file/below", "data": "digist", "device": "gpu9", "pair": "none.py"}


@pytest.mark.parametrize(
    "words",
    [("fit", "vae"), ("fit", "gan"), ("evaluate", "nowhere"), ("sample", "nowhere"), ("compare",)],
)
def test_every_option_wrong_at_once_is_told_at_once(capsys, place, words):
    (place / "file").write_text("a file")
    options = [name for name in shown(capsys, *words) if name not in ANY_TEXT]
    values = {name: OWN.get(name, f"wrong-{name}") for name in options}
    request = [f"--{name}={value}" for name, value in values.items()]
    code, out, err = said(capsys, *words, *request, "--epcohs=3")
    assert (code, out) == (2, "")
    assert "unknown option --epcohs" in err
    quiet = []
    for name, value in values.items():
        told = name.rpartition(".")[2].replace("-", "_")
        if not (value in err or f"--{name} " in err or re.search(rf"\b{told} (is no|must)", err)):
            quiet.append(name)
    # Of "out" it is the folder above that is named; "frozen" names parts, and no pair is made here.
    assert set(quiet) <= {"out", "frozen"}, err
    assert err.count("priory: ") >= len(options) // 2, "a line for each"
    assert sorted(p.name for p in place.iterdir()) == ["file"]


def test_a_recipe_that_is_none_is_told(capsys):
    code, _, err = said(capsys, "compare", "--recipe", "vae,vea")
    assert code == 2
    assert "unknown recipe 'vea', nearest 'vae'" in err


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_number_of_a_recipe_is_read_strictly(capsys, recipe):
    options = shown(capsys, "fit", recipe)
    numbers = [name for name, metavar in options.items() if metavar in ("N", "X")]
    assert numbers
    for value in ("nan", "1e400", "0x10", "1_000", "", "two"):
        request = [f"--{name}={value}" for name in numbers]
        code, _, err = said(capsys, "fit", recipe, *request)
        assert code == 2
        for name in numbers:
            last = name.rpartition(".")[2].replace("-", "_")
            assert last in err or f"--{name}" in err, (name, value, err)


@pytest.mark.parametrize("name", PRIORS)
def test_the_nearest_name_is_suggested(name):
    wrong = name[:-1] + "#"
    with pytest.raises(ValueError, match=re.escape(f"unknown prior {wrong!r}, nearest {name!r}")):
        parse("prior", wrong, PRIORS)


def test_an_impossible_combination_is_told_before_data_are_loaded(capsys):
    request = ["--steps", "3", "--epochs", "3", "--patience", "2", "--valid-every", "0"]
    code, _, err = said(capsys, "fit", "vae", *request, "--rows", "9", "--standardise")
    assert code == 2
    for error in ("epochs or steps", "valid_every must not be 0", "standardise is no option"):
        assert error in err


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("--overwrite=maybe", "--overwrite takes true or false, got 'maybe'"),
        ("--no-lr=3", "unknown option --no-lr"),
        ("--no-overwrite=true", "--no-overwrite takes true or false"),
        ("--seed=-1", "seed"),
        ("--seed=99999999999999999999", "seed must be an integer"),
        ("--lr=inf", "lr must be a number, got 'inf'"),
        ("--hidden=", "unknown option --hidden"),
        ("--data=", "it is empty"),
        ("--binarise=dynamc", "binarise must be 'auto' or 'dynamic' or 'threshold' or 'none'"),
        ("--binarise=dynamc", "did you mean 'dynamic'"),
        ("--data=~nobody-of-this-name/x.csv", "is no path"),
        ("--encoder=mlp:4:hidden=8", "hidden is given twice"),
        ("--encoder=mlp:(4", "brackets do not match"),
        ("--optim=adam:lr=1:lr=2", "takes each argument once, got lr twice"),
        ("--objective=nan*elbo", "the weight must be"),
    ],
)
def test_nothing_wrong_is_taken_for_something_else(capsys, word, error):
    code, out, err = said(capsys, "fit", "vae", word)
    assert (code, out) == (2, "")
    assert error in err


def test_several_faults_are_one_error_in_python_too():
    with pytest.raises(Errors) as caught:
        RECIPES["vae"].prepare(prior="vmap", lr="fast", latnt=3, objective="eblo", batch_size=2.5)
    told = str(caught.value)
    for error in ("'vmap', nearest 'vamp'", "lr must be", "'latnt', nearest 'latent'", "'eblo'"):
        assert error in told


# --- libraries that are not there --------------------------------------------------------------


def absent(monkeypatch, *names):
    for name in names:
        for loaded in [n for n in sys.modules if n.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)


def test_a_flow_without_its_library_names_the_extra(monkeypatch, capsys):
    absent(monkeypatch, "zuko")
    prior = parse("prior", "flow", PRIORS)
    with pytest.raises(ImportError, match=r"zuko.*pip install 'priory\[flows\]'"):
        prior.build(2, torch.zeros(4, 3))


@pytest.mark.parametrize(("ending", "library"), [("parquet", "pyarrow"), ("png", "PIL")])
def test_files_without_their_library_name_the_extra(place, monkeypatch, ending, library):
    from priory.data.files import read_file

    absent(monkeypatch, library)
    (place / f"own.{ending}").write_bytes(b"content")
    path = place if ending == "png" else place / f"own.{ending}"
    with pytest.raises(ImportError, match=r"needs \w+: pip install 'priory\[files\]'"):
        read_file(path)


def test_what_needs_no_library_needs_none(place):
    """Neither pandas nor any extra is loaded by a CSV file, an archive and a report."""
    script = """
        import sys
        for name in ("zuko", "pandas", "pyarrow", "PIL", "dask", "ray"):
            sys.modules[name] = None
        import numpy as np
        from priory.data import Data
        np.savez("own.npz", x=np.ones((20, 3)))
        np.savetxt("own.csv", np.eye(20), delimiter=",")
        print(Data.from_file("own.npz"), Data.from_file("own.csv"), Data.named("digits"))
    """
    done = child(script)
    assert done.returncode == 0, done.stderr
    assert "digits: 1,297 train" in done.stdout


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_without_its_library_names_it(monkeypatch, backend):
    from priory.comparison.fits import plan

    if "backend" not in options_of(plan):
        pytest.skip("compare has no choice of a cluster")
    absent(monkeypatch, "dask", "distributed", "ray", "joblibspark")
    with pytest.raises((Errors, ImportError), match=rf"{backend}.*install|install.*{backend}"):
        plan("digits", priors=["normal"], seeds=1, backend=backend)


# --- without assertions ------------------------------------------------------------------------


# Torch's own code is taken from where it is compiled already, but for the distributions, whose
# checks depend on assertions: to compile it all anew takes as long as all the rest.
COMPILED = """
import importlib._bootstrap_external as files

def cached(path, debug_override=None, *, optimization=None, plain=files.cache_from_source):
    anew = any(name in path for name in ("priory", "pyro", "distributions"))
    return plain(path, debug_override, optimization=None if anew else "")

files.cache_from_source = cached
"""


def child(script, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(script)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_validation_works_where_assertions_are_switched_off():
    script = """
        import contextlib, io, sys
        import numpy as np, pyro, torch
        import pyro.distributions as dist
        from priory import evaluate, fit
        from priory.cli import main
        from priory.serialisation import from_config
        from priory.data import Data
        from priory.inference import ELBO, SVI
        from priory.models import VAE
        from priory.parsing import parse_objective

        if __debug__:
            sys.exit("assertions are on")
        broken = np.ones((20, 2)); broken[3] = np.nan
        grey = Data.from_arrays(x=np.full((40, 2), 0.3))

        def model(x):
            loc = pyro.param("loc", torch.zeros(()))
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(loc, 1.0))
                pyro.sample("x", dist.Normal(z[..., None], 1.0), obs=x[:, 0])

        def guide(x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(pyro.param("q", torch.zeros(())), 1.0))

        def lacks(x):
            pyro.param("q", torch.zeros(()))

        x = torch.zeros(8, 2)
        step = lambda guide: SVI(model, guide, torch.optim.Adam, ELBO()).step(x)
        bernoulli = VAE(latent=2, likelihood="bernoulli")
        faults = {
            "not finite": lambda: Data.from_arrays(x=broken),
            "outside of support": lambda: fit(bernoulli, ELBO(), grey, steps=1, device="cpu"),
            "shape": lambda: step(guide),
            "sites": lambda: step(lacks),
            "option": lambda: fit(VAE(), ELBO(), grey, steps=0),
            "text": lambda: parse_objective("nan*elbo + iwae:0"),
            "configuration": lambda: from_config({"class": "os.system", "command": "true"}),
            "evaluation": lambda: evaluate(VAE(), {"x": torch.tensor(broken)}),
            "archive": lambda: Data.from_file("absent.npz"),
        }
        for name, fault in faults.items():
            try:
                fault()
                print("not told:", name)
            except (ValueError, OSError) as error:
                if not str(error):
                    print("no words:", name)
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            code = main(["fit", "vae", "--prior=vmap", "--lr=fast", "--latnt=3"])
        if code != 2 or err.getvalue().count("priory: ") < 3:
            print("not told: command line", code, err.getvalue())
    """
    done = child(COMPILED + textwrap.dedent(script), "-O", "-B")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
