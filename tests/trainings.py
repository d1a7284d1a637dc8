"""Trainings of a recipe by different ways, that have to end alike."""

import pytest
import torch

from priory.inference import fit, load


def check_traced_and_resumed(recipe, options, data, folder, *, atol):
    """Assert that traced steps are the eager ones, and a broken run ends to the bit as a whole one.

    Returns:
        The run that was broken, read back.
    """

    def interrupted(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    def weights(on_epoch=None, **more):
        pair, objective, training = recipe.prepare(**options, **more)
        return fit(pair, objective, data, **training, on_epoch=on_epoch).pair.state_dict()

    eager, traced = (weights(compile=mode) for mode in ("off", "trace"))
    for key, value in eager.items():
        torch.testing.assert_close(traced[key], value, rtol=1e-3, atol=atol, msg=key)
    broken = {"folder": folder, "compile": "off", "checkpoint_every": 0.0}
    with pytest.raises(KeyboardInterrupt):
        weights(interrupted, **broken)
    for key, value in weights(**broken, resume=True).items():
        assert torch.equal(value, eager[key]), key
    back = load(folder)
    assert torch.equal(back.sample(3)["x"], load(folder).sample(3)["x"])
    return back
