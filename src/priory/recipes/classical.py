"""Classical models, whose likelihood is exact: in closed form, or by EM."""

from typing import Any

from priory.models import (
    GMM,
    HMM,
    BernoulliMixture,
    FactorAnalysis,
    GaussianNaiveBayes,
    NaiveBayes,
    ProbabilisticPCA,
)
from priory.recipes.recipe import Recipe

_ALL = 1_000_000_000  # rows in a batch at most: all of them


def _row(
    name: str,
    paper: str,
    family: type[Any],
    steps: int = 1,
    *,
    data: str = "digits",
    grey: bool = False,
    **options: Any,
) -> Recipe:
    """Return a row that is trained by EM.

    Args:
        name: by which the row is asked for.
        paper: authors, year, title.
        family: the pair's class.
        steps: sweeps; one is enough for a closed form.
        data: the default data set's name.
        grey: whether images keep their grey levels.
        options: of the pair.
    """
    training = {"steps": steps, "batch_size": _ALL, "valid_every": 10}
    return Recipe(name, paper, family, "em", options, training, data, grey)


ROWS = (
    _row(
        "ppca",
        "Tipping and Bishop, 1999, Probabilistic principal component analysis",
        ProbabilisticPCA,
        latent=10,
        grey=True,
    ),
    _row(
        "factor-analysis",
        "Rubin and Thayer, 1982, EM algorithms for ML factor analysis",
        FactorAnalysis,
        100,
        latent=10,
        grey=True,
    ),
    _row(
        "gaussian-mixture",
        "Dempster, Laird and Rubin, 1977, Maximum likelihood from incomplete data via the EM "
        "algorithm",
        GMM,
        100,
        data="ring",
        components=8,
    ),
    _row(
        "bernoulli-mixture",
        "Bishop, 2006, Pattern recognition and machine learning, section 9.3.3",
        BernoulliMixture,
        40,
    ),
    _row(
        "naive-bayes",
        "Maron, 1961, Automatic indexing: an experimental inquiry; Ng and Jordan, 2001, On "
        "discriminative vs. generative classifiers",
        NaiveBayes,
    ),
    _row(
        "gaussian-naive-bayes",
        "Duda and Hart, 1973, Pattern classification and scene analysis",
        GaussianNaiveBayes,
        grey=True,
        floor=0.1,
    ),
    _row(
        "hmm",
        "Baum, Petrie, Soules and Weiss, 1970, A maximization technique occurring in the "
        "statistical analysis of probabilistic functions of Markov chains",
        HMM,
        50,
        data="casino",
    ),
)
