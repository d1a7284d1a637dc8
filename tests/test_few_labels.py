"""Pairs of which some rows show their label: the bound by enumeration, its limits and gradients."""

import pytest
import torch

from priory import evaluate, fit, load
from priory.data import Data
from priory.inference import ELBO, Adversarial, Classification, LabelledELBO, Of, Phases
from priory.inference.phases.conditioning import given_rows
from priory.models import CVAE, M1, M1M2, M2, VAE
from priory.nets import MLP
from priory.recipes import RECIPES
from processes import outcome

pytestmark = pytest.mark.usefixtures("double")

CLASSES, LATENT = 3, 2
SEEN = torch.tensor([0, -1, 2, -1, 1, -1])


def bits(rows=6, columns=5):
    draw = torch.Generator().manual_seed(0)
    return (torch.rand(rows, columns, generator=draw) < 0.5).to(torch.get_default_dtype())


@pytest.fixture
def m2():
    torch.manual_seed(0)
    pair = M2(None, "normal", MLP((4,)), MLP((4,)), MLP((4,)), latent=LATENT)
    pair.build(bits(), SEEN)
    return pair


def phases_of(pair, y, particles=1, **columns):
    torch.manual_seed(1)
    columns = {"x": bits(), "y": y, **columns}
    return Phases(pair.model, pair.guide, columns=columns, particles=particles)


def by_hand(pair, x, z):
    """log p(x, y, z) - log q(z | x, y) for each y, with z[y], `(classes, batch)`."""
    rows = []
    for label in range(CLASSES):
        y = torch.full((len(x),), label)
        likelihood = pair.decoder(z[label], pair.labels.indicators(y, x)).log_prob(x)
        joint = likelihood + pair.prior().log_prob(z[label]) + pair.labels().log_prob(y)
        rows.append(joint - pair.encoder(x, y).log_prob(z[label]))
    return torch.stack(rows)


def test_the_bound_is_that_by_enumeration(m2):
    x, phases = bits(), phases_of(m2, SEEN)
    found = LabelledELBO().loss(phases)
    each = by_hand(m2, x, phases.enumerating(("y",)).sample["z"])
    q = m2.classify(x).probs.mT
    unlabelled = (q * (each - q.log())).sum(0)
    labelled = each.gather(0, SEEN.clamp(min=0)[None])[0]
    torch.testing.assert_close(found, -torch.where(SEEN >= 0, labelled, unlabelled).mean())
    assert (unlabelled <= each.logsumexp(0)).all()
    assert (labelled <= each.logsumexp(0)).all()
    # Without labels it is the bound with y summed.
    blind = LabelledELBO().loss(phases_of(m2, torch.full_like(SEEN, -1)))
    torch.testing.assert_close(blind, ELBO(gradient="enumerate").loss(phases_of(m2, SEEN)))


def test_the_column_of_seen_labels_and_the_rows_weights_count(m2):
    full, shown = torch.tensor([0, 1, 2, 0, 1, 2]), SEEN >= 0
    for_seen = LabelledELBO().loss(phases_of(m2, SEEN))
    hidden = LabelledELBO().loss(phases_of(m2, full, labelled=shown))
    torch.testing.assert_close(hidden, for_seen, rtol=0, atol=0)
    weight = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    one = LabelledELBO().loss(phases_of(m2, SEEN, weight=weight))
    phases = phases_of(m2, SEEN)
    LabelledELBO().loss(phases)
    each = by_hand(m2, bits(), phases.enumerating(("y",)).sample["z"])
    torch.testing.assert_close(one, -each[0, 0] * 2 / 6)


def test_with_all_labels_it_is_the_conditional_vae_and_a_classifier(m2):
    x, y = bits(), torch.tensor([0, 1, 2, 0, 1, 2])
    twin = CVAE(CLASSES, "normal", MLP((4,)), MLP((4,)), latent=LATENT)
    twin.build(x, y)
    twin.load_state_dict({k: v for k, v in m2.state_dict().items() if "classifier" not in k})
    phases = phases_of(m2, y)
    found = (LabelledELBO() + 0.7 * Classification("y")).loss(phases)
    drawn = phases.enumerating(("y",)).sample["z"][y, torch.arange(len(y))]
    columns = {"x": x, "y": y}
    conditional = Phases(twin.model, twin.guide, columns=columns, latents={"z": drawn})
    classifier = torch.nn.functional.cross_entropy(m2.classifier(x), y)
    torch.testing.assert_close(found, ELBO().loss(conditional) + 0.7 * classifier)


def slopes(pair, loss):
    return torch.autograd.grad(loss, [*pair.classifier.parameters()])


def test_a_labelled_row_teaches_the_classifier_by_its_own_term_alone(m2):
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    for slope in slopes(m2, LabelledELBO(particles=2).loss(phases_of(m2, y, 2))):
        assert slope.abs().max() < 1e-14
    # A row without a label does; and weighed, so does the label.
    for labels, loss in ((SEEN, LabelledELBO()), (y, LabelledELBO() + Classification("y"))):
        assert any(s.abs().max() > 1e-3 for s in slopes(m2, loss.loss(phases_of(m2, labels))))


def test_particles_are_averaged(m2):
    phases = phases_of(m2, SEEN, particles=3)
    found = LabelledELBO(particles=3).loss(phases)
    z = phases.enumerating(("y",)).sample["z"].unflatten(0, (3, CLASSES))
    q, bounds = m2.classify(bits()).probs.mT, []
    for draw in z:
        each = by_hand(m2, bits(), draw)
        labelled = each.gather(0, SEEN.clamp(min=0)[None])[0]
        bounds.append(torch.where(SEEN >= 0, labelled, (q * (each - q.log())).sum(0)))
    torch.testing.assert_close(found, -torch.stack(bounds).mean())


def test_the_frequencies_are_those_of_the_seen_labels(m2):
    y = torch.tensor([0, 0, 1, -1, -1, -1, -1, 2])
    pair = M2(latent=2)
    pair.build(torch.rand(8, 3).round(), y)
    torch.testing.assert_close(pair.labels().probs, torch.tensor([0.5, 0.25, 0.25]))
    assert m2.labels.classes == CLASSES


def test_a_label_beyond_the_classes_is_no_number(m2):
    y = torch.tensor([0, -1, 3, -1, 1, -1])
    assert LabelledELBO().loss(phases_of(m2, y)).isnan()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda x: M2("vamp"), "classes must be"),
        (lambda x: M2(prior="vamp"), "the inputs of VampPrior have no labels"),
        (lambda x: M2().build(x), "the number of classes is not known without labels"),
        (lambda x: M2().build(x, torch.full((6,), -1)), "not known without labels"),
        (lambda x: M2(4).build(x, SEEN), "no training row has the label 3 of the classes 0..3"),
        (lambda x: LabelledELBO(particles=0), "particles must be a positive integer"),
    ],
)
def test_mistakes_are_said(make, told):
    with pytest.raises(ValueError, match=told):
        make(bits())


def test_sites_that_are_not_summed_are_refused(m2):
    x = bits()
    with pytest.raises(ValueError, match="needs the column 'y', the data have x"):
        LabelledELBO()(m2.model, m2.guide, x)
    with pytest.raises(ValueError, match="needs a categorical distribution at 'z'"):
        LabelledELBO("z")(m2.model, m2.guide, x=x, y=SEEN)
    code = RECIPES["aae-semi"].pair(latent=2, codes=3)
    code.build(x)
    with pytest.raises(ValueError, match="sums over the values of 'c'"):
        LabelledELBO("c")(code.model, code.guide, x=x, y=SEEN)


def test_few_labels_make_a_classifier_and_the_judge_bounds_the_data_alone():
    data = Data.named("digits", labelled=100)
    nets = dict.fromkeys(("encoder", "classifier", "decoder"), "mlp:32")
    run = RECIPES["m2"].fit(data, steps=200, lr=5e-3, valid_every=0, progress=False, **nets)
    metrics = ["nll", "accuracy", "code_accuracy"]
    report = evaluate(run, metrics=metrics, pictures=False, particles=10)
    assert report["accuracy"].value > 0.5
    assert report["accuracy"].value == report["code_accuracy"].value
    assert report["nll"].kind == "upper bound"


@pytest.mark.parametrize("recipe", ["gmvae", "gmvae-wzy", "m1", "m2", "m1-m2"])
def test_a_traced_step_is_the_eager_one(recipe):
    data = Data.named("digits", labelled=20, rows=300)
    options = {"steps": 4, "batch_size": 64, "valid_every": 0}
    options |= {f"{stage.name}.steps": 4 for stage in RECIPES[recipe].stages}
    losses = [
        RECIPES[recipe].fit(data, compile=mode, **options).history[-1]["loss"]
        for mode in ("off", "trace")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# --- M1 -------------------------------------------------------------------------------------------


@pytest.fixture
def m1():
    torch.manual_seed(0)
    nets = {part: MLP((4,)) for part in ("encoder", "classifier", "decoder")}
    pair = M1(**nets, latent=LATENT)
    pair.build(bits(), SEEN)
    return pair


def test_labels_move_the_classifier_of_m1_alone_and_its_bound_is_the_vaes(m1):
    plain = VAE(encoder=MLP((4,)), decoder=MLP((4,)), latent=LATENT)
    plain.build(bits())
    mine = m1.state_dict()
    plain.load_state_dict({k: mine[k] for k in plain.state_dict()})
    phases = phases_of(m1, SEEN)
    loss = (ELBO() + Classification("y")).loss(phases)
    z = phases.awake.sample["z"][0]
    torch.manual_seed(1)
    bound = ELBO()(plain.model, plain.guide, bits())
    seen = SEEN >= 0
    classifier = torch.nn.functional.cross_entropy(m1.classifier(z.detach())[seen], SEEN[seen])
    torch.testing.assert_close(loss, bound + classifier)
    names = [name for name, _ in m1.named_parameters()]
    slopes = dict(zip(names, torch.autograd.grad(loss, [*m1.parameters()]), strict=True))
    for name, other in plain.named_parameters():
        (slope,) = torch.autograd.grad(bound, [other], retain_graph=True)
        torch.testing.assert_close(slopes[name], slope)
    own = torch.autograd.grad(classifier, [*m1.classifier.parameters()])
    for (name, _), slope in zip(m1.classifier.named_parameters(), own, strict=True):
        torch.testing.assert_close(slopes[f"classifier.{name}"], slope)


def test_m1_predicts_by_the_mean_over_its_codes(m1):
    m1.draws = 4000
    torch.manual_seed(0)
    found = m1.classify(bits()).probs
    draws = m1.encoder(bits()).sample((4000,))
    exact = m1.explain(draws).softmax(-1).mean(0)
    torch.testing.assert_close(found, exact, atol=0.02, rtol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(len(found)))


def test_data_of_a_class_are_not_drawn_of_m1(m1):
    with pytest.raises(ValueError, match="x does not depend on y, which the model draws after it"):
        given_rows(m1.model, {"x": bits()}, {"y": 1}, 3)


# --- M1+M2 ----------------------------------------------------------------------------------------


@pytest.fixture
def both():
    torch.manual_seed(0)
    names = ("encoder", "decoder", "classifier", "upper_encoder", "upper")
    pair = M1M2(**{part: MLP((4,)) for part in names}, latents=(3, LATENT))
    pair.build(bits(), SEEN)
    return pair


def test_the_first_stage_is_a_vae(both):
    plain = VAE(encoder=MLP((4,)), decoder=MLP((4,)), latent=3)
    plain.build(bits())
    mine = both.state_dict()
    plain.load_state_dict({k: mine[k] for k in plain.state_dict()})
    losses = []
    for pair, objective in ((both, Of("m1", ELBO(particles=4))), (plain, ELBO(particles=4))):
        torch.manual_seed(2)
        losses.append(objective(pair.model, pair.guide, bits()))
    torch.testing.assert_close(*losses)
    own = torch.autograd.grad(losses[0], [*both.encoder.parameters(), *both.decoder.parameters()])
    other = torch.autograd.grad(losses[1], [*plain.parameters()])
    assert all(map(torch.equal, own, other))


def test_the_second_stage_is_m2_of_fresh_codes_by_enumeration(both):
    columns, loss = {"x": bits(), "y": SEEN}, LabelledELBO() + 0.7 * Classification("y")
    torch.manual_seed(5)
    found = Of("m2", loss)(both.model, both.guide, **columns)
    torch.manual_seed(5)
    z1 = both.encoder(bits()).sample()
    torch.manual_seed(5)
    codes = Phases(both.model, both.guide, columns=columns).data("z1")
    assert torch.equal(codes, z1)
    phases = Phases(*both.m2, columns={**columns, "z1": z1})
    torch.testing.assert_close(found, loss.loss(phases), rtol=0, atol=0)
    z2, each = phases.enumerating(("y",)).sample["z2"], []
    for label in range(CLASSES):
        y = torch.full((len(z1),), label)
        joint = both.below(z2[label], y).log_prob(z1) + both.prior().log_prob(z2[label])
        each.append(joint + both.labels().log_prob(y) - both.above(z1, y).log_prob(z2[label]))
    each, q, seen = torch.stack(each), both.explain(z1).probs.mT, SEEN >= 0
    held = each.gather(0, SEEN.clamp(min=0)[None])[0]
    bound = torch.where(seen, held, (q * (each - q.log())).sum(0)).mean()
    classifier = torch.nn.functional.cross_entropy(both.classifier(z1)[seen], SEEN[seen])
    torch.testing.assert_close(found, 0.7 * classifier - bound)


def test_a_bound_of_the_whole_is_one_of_the_stacked_model(both):
    torch.manual_seed(3)
    phase = Phases(both.model, both.guide, columns={"x": bits()}).awake
    z1, y, z2 = (phase.sample[n][0] for n in ("z1", "y", "z2"))
    x = bits()
    outer = both.decoder(z1).log_prob(x) - both.encoder(x).log_prob(z1)
    p = both.labels().log_prob(y) + both.prior().log_prob(z2) + both.below(z2, y).log_prob(z1)
    q = both.explain(z1).log_prob(y) + both.above(z1, y).log_prob(z2)
    torch.testing.assert_close(phase.log_weight()[0], outer + p - q)


def test_an_upper_layer_that_says_nothing_leaves_the_vae(both):
    """Features of zero: p(z1) is N(0, I), and y and z2 have their priors in both programs."""
    with torch.no_grad():
        for net in (both.classifier, both.upper_encoder.net, both.upper.net):
            for parameter in net.parameters():
                parameter.zero_()
    phase = Phases(both.model, both.guide, columns={"x": bits()}).enumerating(("y",))
    z1 = phase.sample["z1"]
    vae = both.decoder(z1).log_prob(bits()) + both.codes().log_prob(z1)
    torch.testing.assert_close(phase.log_weight(), vae - both.encoder(bits()).log_prob(z1))


def test_m1_m2_is_taken_apart_where_it_does_not_fit(both):
    x = bits()
    with pytest.raises(ValueError, match=r"a tuple of two programs as M1M2\.m3, got NoneType"):
        Of("m3", ELBO())(both.model, both.guide, x)
    with pytest.raises(ValueError, match="without a critic"):
        Of("m1", Adversarial(MLP((4,)), "z1"))
    with pytest.raises(ValueError, match="latents must be two numbers"):
        M1M2(latents=(3,))


OPTIONS = {
    **dict.fromkeys(("encoder", "decoder", "classifier", "upper_encoder", "upper"), "mlp:4"),
    "latents": (3, 2),
    "batch_size": 16,
    "compile": "off",
    "valid_every": 0,
    "progress": False,
    "checkpoint_every": 0.0,
    "m1.steps": 4,
    "steps": 4,
}


class Broken(Exception):
    """Stands for a process that dies: nothing is saved on the way out."""


def stacked(folder, **options):
    """Train M1+M2 in two stages of two epochs each; return what the parameters were after each."""
    data, seen = Data.named("digits", labelled=20, rows=60), {}
    pair, objective, own = RECIPES["m1-m2"].prepare(**OPTIONS)

    def look(row):
        seen[row["epoch"]] = {n: p.detach().clone() for n, p in pair.named_parameters()}
        if row["epoch"] == options.get("until"):
            raise Broken

    own |= {"on_epoch": look, "resume": options.get("resume", False)}
    fit(pair, objective, data, folder=folder, **own)
    return seen


def test_each_stage_of_m1_m2_moves_its_own_layer_and_resumes_to_the_same_bits(tmp_path):
    seen = stacked(tmp_path / "whole")
    outer = {n for n in seen[1] if n.startswith(("encoder", "decoder"))}
    after, first, last = sorted(seen)[1:4]
    for one, other, moving in ((1, after, outer), (after, first, {*seen[1]} - outer)):
        same = {n for n in seen[1] if torch.equal(seen[one][n], seen[other][n])}
        assert same == {*seen[1]} - moving
    for until in (1, last):
        with pytest.raises(Broken):
            stacked(tmp_path / f"run{until}", until=until)
        stacked(tmp_path / f"run{until}", resume="auto")
        assert outcome(tmp_path / f"run{until}") == outcome(tmp_path / "whole")
    config = load(tmp_path / "whole").config
    assert config["frozen"] == ["encoder", "decoder"]


def test_parts_that_are_frozen_must_be_there_and_may_learn_again():
    data = Data.named("digits", labelled=20, rows=200)
    with pytest.raises(ValueError, match="frozen names 'mind', which is no part of VAE"):
        fit(VAE(latent=2), ELBO(), data, frozen=["mind"], steps=1)
    with pytest.raises(ValueError, match="frozen must be a list of names"):
        fit(VAE(latent=2), ELBO(), data, frozen="encoder", steps=1)
    _, _, options = RECIPES["m1-m2"].prepare(frozen="none")
    assert options["frozen"] is None
