"""The hidden Markov model, with its likelihood by the forward algorithm."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn

from priory.distributions.markov import MarkovSequence, Normals, Symbols
from priory.lookup import at_least, positive
from priory.models.linear_gaussian import column_variances
from priory.models.pair import Tractable

_MOST = 256  # symbols
_NOBODY = 1e-6  # steps below which a state keeps its emission


class HMM(Tractable):
    r"""A hidden Markov model of sequences, with symbols or normal vectors; trained by EM.

    .. math:: s_1 \sim \pi, \quad s_t \sim A_{s_{t-1}}, \quad x_t \sim p(x_t \mid s_t)

    Baum, Petrie, Soules and Weiss, 1970, A maximization technique occurring in the statistical
    analysis of probabilistic functions of Markov chains; Rabiner, 1989, A tutorial on hidden Markov
    models. A datum is a sequence: its first axis is time. Sequences of different lengths are
    padded, and the data's column `length` has the number of each one's steps; the padding never
    counts. Means begin at steps drawn from the training rows, before the zeros at their ends, so
    that 0 is the value to pad with. The states are summed out, so that the guide has none; `smooth`
    and `decode` find them.

    Args:
        states: K, the number of states.
        symbols: How many symbols a step shows one of, integers from 0 (each coordinate one); 0 for
            normal vectors. None takes symbols where all training values are integers from 0 to
            255.
        floor: Least probability of a symbol, a state and a transition; smallest variance, as a
            share of the coordinate's over the steps of the training rows.

    Raises:
        ValueError: A number is out of range; when it is built, if the data are no such symbols.

    Example:
        >>> pair = HMM(states=2)
        >>> x = torch.randint(6, (100, 20)).float()
        >>> pair.build(x)
        >>> pair.maximise(x)  # one sweep of Baum-Welch
        >>> pair.decode(x).shape
        torch.Size([100, 20])
    """

    name = "hmm"
    unit: Tensor

    def __init__(self, states: int = 2, symbols: int | None = None, floor: float = 1e-6) -> None:
        super().__init__()
        self.states = positive("states", states)
        self.symbols = None if symbols is None else at_least(0, "symbols", symbols)
        if not 0 < floor < 1 / max(self.states, self.symbols or 1):
            raise ValueError(f"floor must be between 0 and 1 / states or symbols, got {floor}")
        self.floor = floor

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parameters: transitions and symbols nearly even, means at steps of the rows."""
        x = x.reshape(len(x), x.shape[1] if x.dim() > 1 else 1, -1).double()
        count = self.states
        whole = bool(((x == x.round()) & (x >= 0)).all())
        if self.symbols is None:
            self.symbols = int(x.max()) + 1 if whole and x.max() < _MOST else 0
        if self.symbols and not (whole and x.max() < self.symbols):
            raise ValueError(
                f"the pair expects symbols, integers from 0 to {self.symbols - 1}, got values in "
                f"[{float(x.min()):g}, {float(x.max()):g}]: number them from 0, pad with 0, or set "
                "symbols=0 for normal vectors"
            )
        self.initial = nn.Parameter(torch.zeros(count))
        self.transition = nn.Parameter(torch.eye(count) + 0.1 * torch.randn(count, count))
        if self.symbols:
            self.logits = nn.Parameter(torch.randn(count, x.shape[-1], self.symbols) / 2)
            return
        steps = _unpadded(x)
        self.register_buffer("unit", column_variances(steps).sqrt())
        rows = torch.randperm(len(steps))[torch.arange(count) % len(steps)].to(x.device)
        apart = 0.1 * torch.randn(count, x.shape[-1]).to(x) * self.unit
        self.mean = nn.Parameter(steps[rows] + apart)
        self.log_scale = nn.Parameter(self.unit.log().repeat(count, 1))

    def sequences(self, length: Tensor | None = None) -> MarkovSequence:
        """Return p(x), of sequences of given lengths (*batch), or of full ones.

        Raises:
            RuntimeError: The pair is not built.
        """
        if self.shape is None:
            raise RuntimeError("HMM has no parameters yet: call build first")
        initial, transition = self.initial.log_softmax(-1), self.transition.log_softmax(-1)
        shown = Symbols(self.logits) if self.symbols else Normals(self.mean, self.log_scale)
        return MarkovSequence(initial, transition, shown, self.shape or (1,), length)

    def log_likelihood(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Return log p(x), (*batch), of sequences (*batch, *shape) of given lengths (*batch)."""
        return self.sequences(length).log_prob(x)

    def smooth(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Return p(s_t | x), (*batch, steps, K), of sequences (*batch, *shape); 0 behind the end.

        Args:
            x: Sequences.
            length: Their steps, (*batch); None where all are full.
        """
        sequences = self.sequences(length)
        pairs = zip(sequences.forward(x), sequences.backward(x), strict=True)
        states = torch.stack([(a + b).softmax(-1) for a, b in pairs], -2)
        counted = sequences.counted()
        return states if counted is None else torch.where(counted[..., None], states, 0.0)

    @torch.no_grad()
    def decode(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Return the likeliest states, (*batch, steps), of sequences (*batch, *shape).

        Viterbi, 1967, Error bounds for convolutional codes and an asymptotically optimum decoding
        algorithm. Steps behind the end have the last state.

        Args:
            x: Sequences.
            length: Their steps, (*batch); None where all are full.
        """
        sequences = self.sequences(length)
        shown, counted = sequences.log_emissions(x), sequences.counted()
        stay = torch.arange(self.states, device=x.device)
        best, former = sequences.initial + shown[..., 0, :], []
        for t in range(1, shown.shape[-2]):
            moved, before = (best.unsqueeze(-1) + sequences.transition).max(-2)
            moved = moved + shown[..., t, :]
            if counted is not None:
                here = counted[..., t, None]
                moved, before = torch.where(here, moved, best), torch.where(here, before, stay)
            best = moved
            former.append(before)
        states = [best.argmax(-1)]
        for before in reversed(former):
            states.insert(0, before.gather(-1, states[0].unsqueeze(-1)).squeeze(-1))
        return torch.stack(states, -1)

    @torch.no_grad()
    def maximise(self, x: Tensor, length: Tensor | None = None) -> None:
        """Take one sweep of Baum-Welch on sequences (n, *shape) of given lengths (n,)."""
        sequences = self.sequences(length)
        shown, counted = sequences.log_emissions(x), sequences.counted()
        ahead, behind = sequences.forward(x), sequences.backward(x)
        total = ahead[-1].logsumexp(-1)[:, None, None]
        moves = torch.zeros_like(sequences.transition)
        for t in range(1, shown.shape[1]):
            after = (shown[:, t] + behind[t]).unsqueeze(-2)
            move = (ahead[t - 1].unsqueeze(-1) + sequences.transition + after - total).exp()
            moves += (move if counted is None else move * counted[:, t, None, None]).sum(0)
        states = torch.stack([(a + b).softmax(-1) for a, b in zip(ahead, behind, strict=True)], 1)
        states = states if counted is None else states * counted[..., None]
        self.initial.copy_(_floored(states[:, 0].sum(0), self.floor).log())
        self.transition.copy_(_floored(moves, self.floor).log())
        self._fit_emission(sequences.steps(x).flatten(0, 1), states.flatten(0, 1))

    def _fit_emission(self, steps: Tensor, states: Tensor) -> None:
        """Move the emissions to their optimum for steps (n, d), weighted by states (n, K)."""
        counts = states.sum(0)[:, None]
        if self.symbols:
            each = [states.mT @ (steps == s).to(states) for s in range(self.symbols)]
            self.logits.copy_(_floored(torch.stack(each, -1), self.floor).log())
            return
        mean = states.mT @ steps / counts.clamp(min=_NOBODY)
        for k in range(self.states):
            if counts[k] < _NOBODY:
                continue
            apart = ((steps - mean[k]) / self.unit).square()
            variance = (states[:, k] @ apart / counts[k]).clamp(min=self.floor)
            self.mean[k] = mean[k]
            self.log_scale[k] = variance.log() / 2 + self.unit.log()

    def model(self, x: Tensor, length: Tensor | None = None) -> None:
        with self.batch(x):
            pyro.sample("x", self.sequences(length), obs=x)

    def guide(self, x: Tensor) -> None:
        """Declare nothing: the states are summed out."""
        self.register(x)


def _unpadded(x: Tensor) -> Tensor:
    """Return the steps (n, d) of sequences (rows, steps, d), without zeros behind the last other.

    Lengths are not known where parameters are made, and padding is no place to begin at. The first
    step always counts.
    """
    seen = (x != 0).any(-1).flip(1).cumsum(1).flip(1) > 0
    seen[:, 0] = True
    return x[seen]


def _floored(counts: Tensor, floor: float) -> Tensor:
    """Return the probabilities of counts (..., K) that are likeliest of those of at least a floor.

    Args:
        counts: How often each value came up; even where none did.
        floor: The least probability.
    """
    counts = torch.where(counts.sum(-1, keepdim=True) > 0, counts, 1.0)
    low = torch.zeros_like(counts, dtype=torch.bool)
    for _ in range(counts.shape[-1]):
        rest = torch.where(low, 0.0, counts)
        share = 1 - floor * low.sum(-1, keepdim=True)
        probs = torch.where(low, floor, rest / rest.sum(-1, keepdim=True) * share)
        if bool((probs >= floor).all()):
            break
        low = low | (probs < floor)
    return probs
