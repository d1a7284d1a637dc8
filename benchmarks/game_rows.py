"""The games of the benchmark: an objective each, one net and one budget, and what was published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NET = "fourier:64:0.3:6:128,128"  # 64 frequencies of scales 0.3 to 6
FIXED = {
    "generator": "fourier:32:0.3:3:128,128,128,128",
    "latent": 2,
    "steps": 2000,
    "batch_size": 128,
    "lr": 1e-3,
    "schedule": "cosine",
    "optim": "adam:betas=0.5,0.999",
    "ema": 0.99,
}


@dataclass(frozen=True)
class Game:
    """A line of the table: the objective, and what was published of the game.

    Args:
        title: its name in the table.
        options: of the adversarial term.
        critic: its text.
        published: modes, share of high quality and KL, by the toy set.
        own: training that differs from `FIXED`.
    """

    title: str
    options: str = ""
    critic: str = NET
    published: dict[str, str] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)

    @property
    def objective(self) -> str:
        """The objective as text."""
        return ":".join(["adversarial:x", f"critic=({self.critic})", *filter(None, [self.options])])

    @property
    def training(self) -> dict[str, Any]:
        """Options of the fit."""
        return {**FIXED, **self.own}


SPECTRAL = f"{NET}:spectral=true"
SETS_OF = "features=(fourier:64:0.3:6:128):head=(mlp:128:leaky-relu):width=128:size=16"
R3GAN = "game=relativistic:r1=0.02:r2=0.02"
GAMES = {
    "minimax": Game("minimax", "game=minimax"),
    "non-saturating": Game(
        "non-saturating",
        published={
            "ring": "6.3 / 98.2 / 0.45 (PacGAN); 1 / 99.3 (VEEGAN)",
            "grid": "17.3 / 94.8 / 0.70 (PacGAN); 3.3 / 0.5 (VEEGAN)",
        },
    ),
    "least-squares": Game("least squares", "game=least-squares"),
    "hinge": Game("hinge", "game=hinge"),
    "hinge-spectral": Game("hinge, spectral norm", "game=hinge", SPECTRAL),
    "kl": Game("f-GAN, KL", "game=kl"),
    "reverse-kl": Game("f-GAN, reverse KL", "game=reverse-kl"),
    "chi-square": Game("f-GAN, chi-square", "game=chi-square"),
    "wasserstein-clip": Game("Wasserstein, clipped", "game=wasserstein:steps=5:clip=0.1"),
    "wasserstein-penalty": Game(
        "Wasserstein, gradient penalty", "game=wasserstein:steps=5:gradient_penalty=0.1"
    ),
    "wasserstein-spectral": Game(
        "Wasserstein, spectral norm", "game=wasserstein:steps=5", SPECTRAL
    ),
    "r1": Game("non-saturating, R1", "r1=0.02"),
    "pac-2": Game(
        "non-saturating, packs of 2",
        "pack=2",
        published={"ring": "7.9 / 95.6 / 0.07 (PacGAN)", "grid": "23.8 / 91.3 / 0.13 (PacGAN)"},
    ),
    "pac-4": Game(
        "non-saturating, packs of 4",
        "pack=4",
        published={"ring": "7.8 / 95.9 / 0.07 (PacGAN)", "grid": "24.8 / 93.6 / 0.04 (PacGAN)"},
    ),
    "dan-s": Game("distributional, one set", critic=f"deep-mean:{SETS_OF}"),
    "dan-2s": Game("distributional, two sets", critic=f"two-sample:{SETS_OF}"),
    "relativistic": Game("relativistic, R1 and R2", R3GAN),
    "relativistic-long": Game("relativistic, R1 and R2", R3GAN, own={"lr": 4e-3, "steps": 6000}),
}

ELSEWHERE = {
    "*ALI, not run*": {"ring": "2.8 / 0.13 (VEEGAN)", "grid": "15.8 / 1.6 (VEEGAN)"},
    "*Unrolled, not run*": {"ring": "7.6 / 35.6 (VEEGAN)", "grid": "23.6 / 16 (VEEGAN)"},
    "*VEEGAN, not run*": {"ring": "8 / 52.9", "grid": "24.6 / 40"},
}
"""What was published of methods that are no game of ours: modes and share of high quality."""
