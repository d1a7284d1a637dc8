"""Training runs in processes of their own, to be killed: shared by the tests of reliability."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from priory import fit
from priory.cli import main
from priory.data import Data
from priory.inference import ELBO, Adversarial, Exponential, Linear, Objective
from priory.inference.engine.optim import JointOptim
from priory.inference.objectives.schedules import current

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["priory", "torch._dynamo", "sklearn.linear_model"])
WIDTH = 6


class Busy(nn.Module):
    """Dropout, running means, a schedule, and a parameter that only Pyro's store holds."""

    def __init__(self, latent: int = 2) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.Dropout(0.3))
        self.head = nn.Linear(8, 2 * latent)
        self.decoder = nn.Linear(latent, WIDTH)
        self.warmth = Linear(0.5, 1.0, 30)

    def model(self, x):
        pyro.module("busy", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("busy", self)
        ones = torch.ones(self.latent)
        scale = pyro.param("scale", ones, constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            loc, _ = self.head(self.encoder(x)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale * current(self.warmth)).to_event(1))


class Chain(Objective):
    """A term with a state of its own, moved by NumPy's generator: a persistent chain."""

    def __init__(self) -> None:
        self.place = torch.zeros(2)

    def loss(self, phases):
        self.place = 0.9 * self.place + torch.as_tensor(np.random.normal(size=2)).float()  # noqa: NPY002
        return 0.01 * (phases.awake.sample["z"].mean((0, 1)) - self.place).square().sum()

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


def arrays(**columns):
    rows = {"x": np.random.default_rng(0).normal(size=(64, WIDTH)), **columns}
    return Data.from_arrays(**rows, valid=16, test=8)


def everything(folder, *, chain=True, **options):
    """Train with all that has a state at once; 5 steps an epoch."""
    torch.manual_seed(1)
    critic = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    objective = ELBO() + Adversarial(critic, "z")
    options = {
        "steps": 18,
        "lr": 1e-2,
        "schedule": Exponential(1.0, 0.1, 18),
        "ema": 0.9,
        "patience": 3,
        "valid_particles": 4,
        **options,
    }
    return small(folder, objective=objective + Chain() if chain else objective, **options)


def small(folder, *, objective=None, latent=2, **options):
    """Train the smallest pair there is; 5 steps an epoch."""
    torch.manual_seed(2)
    options = {"steps": 12, "batch_size": 8, "progress": False, "compile": "off", **options}
    return fit(Busy(latent), objective, arrays(), folder=folder, **options)


def killed(folder, *, what, turn, **options):
    """Run a task; kill the process between the gradients and the update of a player's turn."""
    _at_turn(turn, lambda: os.kill(os.getpid(), signal.SIGKILL))
    globals()[what](folder, **options)


def compiled(folder, **options):
    """Train compiled steps to the end, and again, broken off in the middle and resumed."""
    small(folder / "whole", compile="inductor")
    options = {"compile": "inductor", "checkpoint_every": 0.0, **options}
    update = JointOptim.__call__
    _at_turn(8, lambda: sys.exit("broken off"))
    try:
        small(folder / "broken", **options)
    except SystemExit:
        JointOptim.__call__ = update
    small(folder / "broken", resume=True, **options)


def _at_turn(turn, do):
    turns, update = iter(range(turn)), JointOptim.__call__

    def fatal(self, *args):
        if next(turns, None) is None:
            do()
        update(self, *args)

    JointOptim.__call__ = fatal


def endless(folder, **options):
    """Train until a signal comes; say when the first epoch is over."""
    small(
        folder,
        steps=10**9,
        checkpoint_every=1000.0,
        valid_every=0,
        on_epoch=lambda _: folder.with_name("started").touch(),
        **options,
    )


def slow_writes(folder, **options):
    """Train with a checkpoint at every step; one file of the third never gets to the disk."""
    sync, left = os.fsync, iter((True, False))

    def fsync(handle):
        if (folder / "checkpoints" / "step-00000002").is_dir() and not next(left, False):
            folder.with_name("writing").touch()
            time.sleep(600)
        sync(handle)

    os.fsync = fsync
    small(folder, checkpoint_every=0.0, **options)


def full_disk(folder, **options):
    """Train with a checkpoint at every step; from the third step on no file may grow."""

    def fill(_):
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))

    try:
        small(folder, checkpoint_every=0.0, valid_every=0, on_epoch=fill, **options)
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        sys.exit(str(error))


def start(task, folder, **options):
    """Start a task of this module in a process of its own."""
    process = CONTEXT.Process(target=_run, args=(task.__name__, Path(folder), options))
    process.start()
    return process


def start_ranks(number, target, *words, folder, **environment):
    """Start ranks as torchrun would, without torchrun itself; each writes to RANK.out, RANK.err."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    common |= {"WORLD_SIZE": str(number), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    common |= {"TORCHELASTIC_RESTART_COUNT": "0", **environment}
    ranks = [
        start_logged(target, *words, log=folder / str(r), **common, RANK=str(r))
        for r in range(number)
    ]
    ranks[0].store = store  # lives as long as they do
    return ranks


def start_torchrun(*words, log, **environment):
    """Start two ranks of a command by torchrun, whose own start is spared: torch is loaded."""
    words = ("--standalone", "--nproc-per-node=2", *map(str, words))
    return start_logged(torchrun, words, log=log, OMP_NUM_THREADS="1", **environment)


def torchrun(words):
    from torch.distributed.run import main

    main(words)


def commands(*lines):
    """Run commands one after the other, up to the first that fails."""
    return next((code for code in map(main, lines) if code), 0)


def start_logged(target, *words, log, **environment):
    """Start a function of a module in a process that writes to LOG.out and LOG.err."""
    environment = {**os.environ, **environment}
    process = CONTEXT.Process(target=_logged, args=(target, words, log, Path.cwd(), environment))
    process.start()
    return process


def told(script, folder, **given):
    """Run a script, to which some values are given; answer its exit code and both its outputs."""
    log = folder / "script"
    return ended(start_logged(exec, textwrap.dedent(script), given, log=log), log)


def ended(process, log):
    """Wait for a process that writes to a log; answer its exit code, and both its outputs."""
    process.join(600)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{log}: the process did not end")
    return process.exitcode, *(Path(f"{log}.{end}").read_text() for end in ("out", "err"))


def _logged(target, words, log, folder, environment):
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(f"{log}.{name[3:]}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        setattr(sys, name, os.fdopen(file, "w", buffering=1))
    sys.exit(target(*words))


def end(process, folder):
    """Wait for a process; answer its exit code and what it wrote to the standard error."""
    process.join(600)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{folder}: the process did not end")
    return process.exitcode, folder.with_name(f"{folder.name}.err").read_text()


def wait_for(path, process):
    """Wait until a path is there."""
    while not path.exists():
        assert process.is_alive(), "the process ended too early"
        time.sleep(0.01)


def outcome(folder):
    """All that must come out the same: the digest of all weights, and the history."""
    entries = json.loads((folder / "manifest.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    return entries["weights.safetensors"]["sha256"], rows


def _run(task, folder, options):
    torch.set_num_threads(1)
    log = os.open(folder.with_name(f"{folder.name}.err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 2)
    sys.stderr = os.fdopen(log, "w", buffering=1)
    globals()[task](folder, **options)
