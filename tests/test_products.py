"""Large products of compiled steps by the faster library: the same numbers, only faster."""

import pytest
import torch

from priory.inference.engine import fx_graph, products
from priory.inference.engine.fx_graph import Traced

pytestmark = pytest.mark.skipif(not products._has_operator(), reason="torch is without oneDNN")
N, D, H = 100, 300, 200


@pytest.fixture(scope="module")
def step():
    """A step with products by addmm and mm, forward and backward, some of them small."""
    torch.manual_seed(0)
    first, last = torch.nn.Linear(D, H), torch.nn.Linear(H, 2)
    x = torch.randn(N, D)

    def loss(x):
        return last((first(x) @ first.weight).tanh() @ first.weight.T).square().mean()

    params = [*first.parameters(), *last.parameters()]
    return Traced(loss, params, [x], [first, last]), x, loss, params


def test_only_large_products_go_to_the_faster_library(step):
    traced, *_ = step
    found = products.by_faster_library(traced.graph)
    named = [str(node.target) for node in found.graph.nodes]
    before = [str(node.target) for node in traced.graph.graph.nodes]
    small = [n for n in before if n in ("aten.mm.default", "aten.addmm.default")]
    assert not any("priory" in name for name in before)  # the graph itself stays
    moved, left = named.count("priory.product.default"), named.count("aten.mm.default")
    assert moved >= 7
    assert left + named.count("aten.addmm.default") == len(small) - moved >= 3


def test_a_step_by_the_faster_library_has_the_same_gradients(step):
    traced, x, loss, params = step
    value = loss(x)
    expected = [value, *torch.autograd.grad(value, params)]
    found, _, *gradients = products.by_faster_library(traced.graph)(*traced.held, x)
    for a, b in zip([found, *gradients], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of its own code
def test_a_compiled_step_takes_the_library_of_its_processor(step, monkeypatch):
    traced, x, *_ = step
    graphs = []
    monkeypatch.setattr(
        "torch._inductor.compile_fx.compile_fx", lambda g, *_, **__: graphs.append(g) or g
    )
    monkeypatch.setattr(traced, "run", traced.graph)
    for slow in (False, True):
        monkeypatch.setattr(fx_graph, "library_is_slow", lambda slow=slow: slow)
        assert traced.compile([x]) == ""
    assert graphs[0] is traced.graph
    assert "priory.product" in graphs[1].code


@pytest.mark.skipif(not products.library_is_slow(), reason="this processor's library is fast")
def test_a_compiled_step_by_the_faster_library_has_the_same_gradients(step, monkeypatch):
    traced, x, loss, params = step
    monkeypatch.setattr(traced, "run", traced.graph)
    assert traced.compile([x]) == ""
    traced([x])
    for p, g in zip(params, torch.autograd.grad(loss(x), params), strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("of", [torch.float64, torch.bfloat16])
def test_other_precisions_stay_where_they_are(of):
    x = torch.randn(N, D, dtype=of)
    weight = torch.nn.Parameter(torch.randn(D, D, dtype=of))
    traced = Traced(lambda x: (x @ weight).square().mean(), [weight], [x])
    assert products.by_faster_library(traced.graph) is traced.graph


VIEWS = {
    "transposed": lambda n, m: torch.randn(m, n).T,
    "one row": lambda n, m: torch.randn(1, m).expand(n, m),
    "one column": lambda n, m: torch.randn(n, 1).expand(n, m),
    "every second": lambda n, m: torch.randn(n, 2 * m)[:, ::2],
    "a part": lambda n, m: torch.randn(n, m + 3)[:, 3:],
}


@pytest.mark.parametrize("left", VIEWS)
@pytest.mark.parametrize("right", VIEWS)
def test_products_of_views_are_right(left, right):
    products.define()
    torch.manual_seed(0)
    a, b = VIEWS[left](N, D), VIEWS[right](D, H)
    found = torch.ops.priory.product(a, b)
    scale = a.abs().double() @ b.abs().double()
    assert ((found - a.double() @ b.double()).abs() <= 2e-5 * scale).all()
