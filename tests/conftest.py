"""What every test starts from: an empty parameter store, a seed, and untouched global switches."""

import functools
import gc
import importlib.metadata
import io
import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

# Each process has a home of its own, before anything is imported that could look for or write one.
os.environ["HOME"] = tempfile.mkdtemp(prefix="priory-tests-")
os.environ.update(
    XDG_CACHE_HOME=f"{os.environ['HOME']}/.cache",
    XDG_CONFIG_HOME=f"{os.environ['HOME']}/.config",
    XDG_DATA_HOME=f"{os.environ['HOME']}/.local/share",
    MPLCONFIGDIR=f"{os.environ['HOME']}/.config/matplotlib",
    DASK_CONFIG=f"{os.environ['HOME']}/.config/dask",
)

import pyro
import pytest
import sklearn.datasets
import torch

from priory import signatures


def pytest_configure(config):
    """Take one thread; let signals do what they usually do, in the background too."""
    torch.set_num_threads(1)
    gc.set_threshold(50_000, 20, 50)  # little of what imports make, above all, is garbage
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_finish(session):
    """Leave what has been imported out of the garbage collector's rounds."""
    gc.freeze()


def pytest_unconfigure(config):
    shutil.rmtree(os.environ["HOME"], ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    """Skip what needs absent things; begin with files that wait for processes.

    One worker would else be left with these at the end.
    """
    items.sort(key=lambda item: not item.path.name.startswith(("test_scale", "test_reliability")))
    folder = os.environ.get("PRIORY_DATA", "")
    absent = {}
    if not torch.cuda.is_available():
        absent["cuda"] = "needs a CUDA device, and torch sees none"
    if not folder:
        absent["data"] = "needs the data sets: set PRIORY_DATA to their folder"
    elif not Path(folder).is_dir():
        absent["data"] = f"needs the data sets: PRIORY_DATA={folder} is not a folder"
    for item in items:
        for name, reason in absent.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keep what is cached, such as trained feature extractors, out of the user's folder."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # by all workers
    with pytest.MonkeyPatch.context() as patch:
        if "PRIORY_CACHE" not in os.environ:
            patch.setenv("PRIORY_CACHE", str(shared / "cache"))
        yield


@pytest.fixture(autouse=True, scope="session")
def looked_up_once():
    """Look up once what no test changes; seed without a listing of the stack.

    Installed packages, the types of functions' arguments, and scikit-learn's digits, which are text
    and whose values every data set copies. Torch keeps the stack for each device not yet in use.
    """
    with pytest.MonkeyPatch.context() as patch:
        for place, name in (
            (importlib.metadata, "entry_points"),
            (sklearn.datasets, "load_digits"),
            (signatures, "hints_of"),
        ):
            patch.setattr(place, name, functools.cache(getattr(place, name)))
        for device in (torch.cuda, torch.xpu, torch.mtia):
            patch.setattr(device, "traceback", SimpleNamespace(format_stack=list))
        yield


@pytest.fixture(autouse=True)
def clean_state():
    """Seed all generators and undo what a test changes globally."""
    dtype = torch.get_default_dtype()
    with pyro.settings.context(**pyro.settings.get()):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        yield
    torch.set_default_dtype(dtype)
    pyro.clear_param_store()


@pytest.fixture
def double(clean_state):
    """Work in double precision, for exact checks."""
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def no_pixels(monkeypatch):
    """Draw figures of one pixel, for tests of what else a command writes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, format="png")
    pixel = buffer.getvalue()

    def savefig(figure, file, **_):
        file.write(pixel) if hasattr(file, "write") else Path(file).write_bytes(pixel)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
