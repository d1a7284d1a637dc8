"""An objective of other programs of a pair: of a part that explains latents as data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from priory.inference.objectives.base import Objective, check_parts
from priory.inference.phases.arguments import owner, signature
from priory.inference.phases.phases import Phases


class Of(Objective):
    r"""An objective of two other programs that a pair has beside its own model and guide.

    .. math:: L_{\mathrm{part}}(x, z), \qquad z \sim q(z \mid x) \text{ of the pair's own guide}

    For trainings that take the layers of a pair one after the other: `Of("m2", LabelledELBO())`
    trains what explains the codes, on codes that are drawn afresh in every batch. An argument of
    the part's programs that is no column of the data is the latent of that name, a draw of the
    pair's own guide, as a constant: no gradient goes to what drew it. A parameter that the part
    does not use gets no gradient, and is to be frozen. Kingma, Rezende, Mohamed and Welling, 2014,
    Semi-supervised learning with deep generative models, the model M1+M2.

    Args:
        part: Name of the pair's attribute that holds the two programs, model and guide.
        objective: Of them, one without a critic.

    Raises:
        ValueError: The objective has a critic, or moves the parameters by itself; at the first
            loss, if the pair has no such programs, or they take what is no column and no latent.

    Example:
        >>> from priory.inference import LabelledELBO
        >>> from priory.models import M1M2
        >>> x, y = torch.rand(9, 4).round(), torch.tensor([0, 1, 2, -1, -1, -1, -1, -1, -1])
        >>> pair = M1M2(latents=(3, 2))
        >>> pair.build(x, y)
        >>> Of("m2", LabelledELBO())(pair.model, pair.guide, x=x, y=y).shape
        torch.Size([])
    """

    name = "of"

    def __init__(self, part: str, objective: Objective) -> None:
        check_parts([objective])
        if objective.adversaries():
            raise ValueError(
                f"Of({part!r}, ...) takes an objective without a critic, which would judge the "
                "pair's own programs"
            )
        self.part, self.objective = part, objective

    def loss(self, phases: Phases) -> Tensor:
        """Return the objective of the part's programs."""
        model, guide = self.programs(phases)
        taken = dict.fromkeys([*signature(model).names, *signature(guide).names])
        drawn = {n: self.drawn(phases, n) for n in taken if n not in phases.columns}
        columns = {**phases.columns, **drawn}
        return self.objective.loss(
            Phases(model, guide, columns=columns, particles=self.objective.particles)
        )

    def programs(self, phases: Phases) -> Any:
        """Return the part's model and guide."""
        pair = owner(phases.model)
        found = getattr(pair, self.part, None)
        if isinstance(found, tuple) and len(found) == 2 and all(map(callable, found)):
            return found
        raise ValueError(
            f"Of needs a tuple of two programs as {type(pair).__name__}.{self.part}, got "
            f"{type(found).__name__}"
        )

    def drawn(self, phases: Phases, name: str) -> Tensor:
        """Return a fresh draw of a latent by the pair's own guide, (batch, *event)."""
        with torch.no_grad():
            return Phases(phases.model, phases.guide, columns=phases.columns).data(name)

    def terms(self) -> tuple[Objective, ...]:
        """Return the objective of the part."""
        return (self.objective,)
