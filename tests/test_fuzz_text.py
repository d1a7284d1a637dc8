"""Mangled configurations and parts written as text: parts, or an error in words; nothing else."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import priory.recipes.find
from fuzzing import Sprung, budget, in_words, mangled, spring
from priory import fit, load
from priory.data import Data
from priory.inference import Objective
from priory.inference.checkpoints.disk import manifest
from priory.inference.objectives import OBJECTIVES, SCHEDULES
from priory.likelihoods import LIKELIHOODS
from priory.models import VAE
from priory.nets import MLP, NETS
from priory.parsing import OPTIMS, parse, parse_objective, read
from priory.priors import PRIORS
from priory.recipes import RECIPES
from priory.serialisation import from_config, locate, to_config
from priory.signatures import Option, options_of

# --- configurations ----------------------------------------------------------------------------


def written():
    """What runs write: pairs and objectives of every recipe."""
    configs = []
    for recipe in RECIPES.values():
        pair, objective, _ = recipe.prepare()
        configs += [to_config(pair), to_config(objective)]
    configs += [to_config(parse("prior", name, PRIORS)) for name in PRIORS]
    return configs


CONFIGS = written()
JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 40),
        st.just(2**70),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(
            [
                "priory.recipes.find.pair_class",
                "priory.recipes.find.importlib",
                "priory.cli.main",
                "priory.inference.run.load",
                "priory.inference.run.Run",
                "priory.data.data.Data",
                "priory.divergences.mmd",
                "priory.nets.mlp.MLP",
                "priory.nets.mlp.torch",
                "priory.priors.normal.Normal",
                "priory.nothing.Here",
                "priory.inference.Run",
                "priory.nets.Delta",
                "priory..",
                "fuzzing.spring",
                "os.system",
                "builtins.eval",
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["class", "function", "partial", "unwritable", "hidden", "prior"]),
                st.text(max_size=3),
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


def places(config, path=()):
    yield path
    if isinstance(config, dict | list):
        for key, value in config.items() if isinstance(config, dict) else enumerate(config):
            yield from places(value, (*path, key))


@st.composite
def mangled_configs(draw, configs=CONFIGS):
    config = copy.deepcopy(draw(st.sampled_from(configs)))
    for _ in range(draw(st.integers(1, 3))):
        found = [path for path in places(config) if path]
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        inner = config
        for key in path:
            inner = inner[key]
        edit = draw(st.sampled_from(["replace", "drop", "add"]))
        if edit == "replace":
            inner[last] = draw(JUNK)
        elif edit == "drop":
            del inner[last]
        elif isinstance(inner, dict):
            inner[draw(st.text(max_size=4))] = draw(JUNK)
    return config


def values(made):
    """Every plain value that a built object holds, as far as it can be written down again."""
    todo = [made]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list):
            todo += value
        else:
            yield value


@budget(500)
@given(st.one_of(mangled_configs(), JUNK))
def test_a_mangled_configuration_is_refused_or_read(config):
    try:
        made = from_config(config)
    except ValueError as error:
        in_words(error)
        return
    if isinstance(made, torch.nn.Module | Objective):
        again = to_config(made)
        assert to_config(from_config(again)) == again
        assert all(math.isfinite(v) for v in values(again) if isinstance(v, float))
        assert locate(config["class"]) is type(made)
        known = {"class", *options_of(type(made)), "objectives", "sites"}
        assert set(config) <= known, "an argument that the class has not is never dropped"


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_what_was_written_is_read(config):
    assert to_config(from_config(config)) == config


@pytest.mark.parametrize(
    "path",
    [
        "fuzzing.spring",
        "os.system",
        "priory.recipes.find.pair_class",
        "priory.recipes.find.find_recipe",
        "priory.recipes.find.importlib.import_module",
        "priory.inference.run.load",
        "priory.inference.run.os.system",
        "priory.inference.fit.fit",
        "priory.data.data.Data",
        "priory.data.fetch.download",
        "priory.cli.main",
        "priory.__main__.main",
        "priory.nets.mlp.torch",
        "priory.models.vae.pyro",
        "priory.inference.svi.SVI",
        "priory.inference.SVI",
        "priory.inference.load",
        "priory.inference.fit",
        "priory.inference.Run",
        "priory.inference.Objective",
        "priory.evaluation.evaluate",
        "priory.evaluation.Extractor",
        "priory.divergences.KERNELS",
        "priory.divergences.kernels.rbf",
        "priory.nets.Net",
        "priory.nets.base.LeakyReLU",
        "priory.nets.as_net",
        "priory.nets.NETS",
        "priory.priors.embedding.Codes",
        "priory",
        "",
        ".",
        "priory.",
        "priory.models",
    ],
)
@pytest.mark.parametrize("key", ["class", "function", "partial"])
def test_nothing_but_parts_can_be_named(path, key, monkeypatch):
    monkeypatch.setattr(priory.recipes.find, "_module", lambda file: spring())
    config = {key: {"function": path} if key == "partial" else path}
    if key != "function":
        config |= {"path": "x.py", "name": "x.py", "folder": "x", "argv": ["list"]}
    with pytest.raises(ValueError, match=r"part|no class|has no"):
        from_config(config)
    if path != "priory.models":
        with pytest.raises(ValueError, match=r"part|has no"):
            locate(path)


def test_nesting_without_end_is_an_error():
    deep = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(ValueError, match="nested too deeply"):
        from_config(deep)
    while deep:  # taken apart step by step, as its own end would nest as deeply
        deep = deep["x"]


@budget(300)
@given(st.text(st.sampled_from("!&*:{}[]|>-'\"\n ,#abc01python/object/apply.system"), max_size=60))
def test_yaml_runs_nothing(text):
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError:
        return
    try:
        made = from_config(config)
    except ValueError as error:
        in_words(error)
    else:
        assert not callable(made)
        assert type(made).__module__ in ("builtins", "datetime")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run with its configuration, and what writes another one in its place."""
    folder = tmp_path_factory.mktemp("runs") / "kept"
    np.savez(folder.with_name("rows.npz"), x=np.eye(30)[:, :3], y=np.arange(30) % 2)
    data = Data.open(folder.with_name("rows.npz"))
    pair = VAE(latent=2, encoder=MLP((4,)), decoder=MLP((4,)))
    fit(pair, parse_objective("elbo + match:mmd:z"), data, steps=1, device="cpu").save(folder)
    return folder


def rewritten(folder, text):
    """Write a configuration, and vouch for it in the manifest."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}
    files["config.yaml"] = text.encode()
    del files["manifest.json"]
    (folder / "config.yaml").write_bytes(files["config.yaml"])
    (folder / "manifest.json").write_bytes(manifest(files))


@budget(150)
@given(st.data())
def test_a_run_of_a_mangled_configuration_is_refused_or_read(kept, draw):
    good = (kept / "config.yaml").read_text()
    config = yaml.safe_load(good)
    if draw.draw(st.booleans()):
        text = yaml.safe_dump(draw.draw(mangled_configs([config])))
    else:
        text = draw.draw(mangled([good.encode()])).decode("utf-8", "replace")
    rewritten(kept, text)
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            run = load(kept)
    except (ValueError, OSError) as error:
        in_words(error)
    else:
        said = ["cannot be rebuilt" in str(warning.message) for warning in caught]
        assert said == ([] if isinstance(run.objective, Objective) else [True])
        assert isinstance(run.pair, torch.nn.Module)
        assert all(p.isfinite().all() for p in run.pair.parameters())
    finally:
        rewritten(kept, good)


def test_references_that_multiply_are_an_error():
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12))
    config = yaml.safe_load(f"l0: &l0 [x]\n{levels}")
    with pytest.raises(ValueError, match="more than 1,000,000 values"):
        from_config(config)


# --- text --------------------------------------------------------------------------------------

TOKENS = st.sampled_from(
    [
        *OBJECTIVES,
        *PRIORS,
        *NETS,
        *LIKELIHOODS,
        *SCHEDULES,
        *("mmd", "sinkhorn", "z", "x", "beta", "critic", "sites", "steps", "hidden", "a=b"),
        *":=(),+* -",
        *("0", "1", "7", "0.5", "-1", "1e3", "1e400", "nan", "inf", "1_0", "٣", "true", "none"),
        "99999999999999999999",
        "",
        "\0",
        "é",
    ]
)


@st.composite
def sensible(draw):
    """Parts as one would type them, with an error here and there."""
    number = st.sampled_from(["0", "1", "5", "0.5", "-1", "1e3", "nan", "x", "", "1e400", "2**9"])
    name = draw(st.sampled_from([*OBJECTIVES, "elbo", "eblo"]))
    keys = list(options_of(OBJECTIVES[name])) if name in OBJECTIVES else ["beta"]
    text = name
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from(["", *(f"{key}=" for key in [*keys, "bta"])]))
        part = draw(
            st.one_of(
                number,
                st.sampled_from(
                    ["mmd", "z", "x", "z,x", "z,", "true", "mlp", "(mlp:4)", "(linear:0:1:9)"]
                ),
                st.sampled_from(["(mlp:4,4:tanh)", "(mlp:4,)", "(mlp", "mlp)", "()", "(linear:1)"]),
            )
        )
        text += f":{key}{part}"
    weight = draw(st.one_of(st.just(""), number.map(lambda n: f"{n}*")))
    return weight + text


@budget(900)
@given(
    st.one_of(
        st.lists(sensible(), min_size=1, max_size=3).map(" + ".join),
        st.lists(TOKENS, max_size=9).map("".join),
        st.text(max_size=20),
    )
)
def test_mangled_objectives(text):
    try:
        made = parse_objective(text)
    except ValueError as error:
        in_words(error)
        return
    config = to_config(made)
    assert to_config(from_config(config)) == config
    assert all(math.isfinite(v) for v in values(config) if isinstance(v, float))
    assert len(made.terms()) == top_level(text, "+") + 1


def top_level(text, sign):
    """How often a sign stands outside of brackets and exponents."""
    depth, found = 0, 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        found += letter == sign and not depth
    return found - text.count("e+")


TABLES = {"prior": PRIORS, "net": NETS, "likelihood": LIKELIHOODS, "schedule": SCHEDULES}


@budget(500)
@given(
    st.sampled_from(sorted(TABLES)),
    st.one_of(st.lists(TOKENS, max_size=7).map("".join), st.text(max_size=12)),
    st.booleans(),
    st.data(),
)
def test_mangled_parts(kind, text, named, draw):
    if named:
        text = f"{draw.draw(st.sampled_from(sorted(TABLES[kind])))}:{text}"
    try:
        made = parse(kind, text, TABLES[kind])
    except ValueError as error:
        in_words(error)
        return
    except ImportError as error:
        in_words(error, "priory[")
        return
    assert all(math.isfinite(v) for v in values(to_config(made)) if isinstance(v, float))


ANNOTATIONS = [int, float, bool, str, int | None, float | None, bool | None, tuple[int, ...]]


@budget(400)
@given(
    st.sampled_from(ANNOTATIONS),
    st.one_of(st.text(max_size=6), st.lists(TOKENS, max_size=3).map("".join), st.floats().map(str)),
)
def test_mangled_values_get_their_type_or_are_refused(annotation, text):
    try:
        value = read(Option("it", annotation), text)
    except ValueError as error:
        in_words(error, "brackets" if "brackets" in str(error) else "it must be")
        return
    if value is None:
        assert text.strip().lower() in ("none", "null")
    elif annotation is str:
        assert value == text.strip()
    elif annotation == tuple[int, ...]:
        assert [str(int(part)) for part in text.split(",")] == [*map(str, value)]
    elif isinstance(value, bool):
        assert text.strip().lower() in ("true", "false", "yes", "no", "on", "off")
    else:
        assert float(text) == value
        assert math.isfinite(value)


@budget(200)
@given(st.sampled_from(sorted(OPTIMS)), st.lists(TOKENS, max_size=5).map("".join))
def test_mangled_optimisers(name, text):
    option = options_of(fit)["optim"]
    try:
        made = read(option, f"{name}:{text}")
    except ValueError as error:
        in_words(error)
        return
    keywords = getattr(made, "keywords", {})
    assert set(keywords) <= set(options_of(OPTIMS[name]))


def test_the_canary_would_be_heard():
    with pytest.raises(Sprung):
        spring()
