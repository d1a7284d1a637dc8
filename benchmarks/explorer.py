"""What one decode costs in the explorer's page: its own script, run by node on one core.

    python -m benchmarks.explorer

The decoders are untrained: what they cost does not depend on their weights. Times are CPU
milliseconds of one point, the median over rounds of many, after as many to warm up.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files

import torch
from torch import nn

from priory.data import Data
from priory.evaluation.explorer.page import page_of
from priory.evaluation.explorer.view import view_of
from priory.inference import Run
from priory.models import VAE
from priory.nets import DCGAN, MLP, Deconv

ROUNDS, EACH = 15, 40
DECODERS: dict[str, tuple[nn.Module, int]] = {
    "mlp 50-200-200-784": (MLP((200, 200)), 50),
    "deconv 16-256-64-32": (Deconv((32, 64), 256), 16),
    "deconv 16-128-32-16": (Deconv((16, 32), 128), 16),
    "dcgan 16-128-64": (DCGAN((64, 128), output="linear"), 16),
}
TIMED = """
const zlib = require('zlib');
const given = JSON.parse(require('fs').readFileSync(0));
const held = given.tensors.map((t) => {
  const raw = zlib.inflateSync(Buffer.from(t.data, 'base64'));
  return unpack(t.type, raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
});
const decoder = given.runs[0].decoder;
decoder.held = decoder.held.map((i) => held[i]);
decoder.scale = decoder.mean = null;
const u = new Float32Array(given.runs[0].latent).fill(0.3), times = [];
for (let round = 0; round < 2 * %d; round++) {
  const began = process.cpuUsage();
  for (let i = 0; i < %d; i++) { decode(decoder, u); }
  const used = process.cpuUsage(began);
  times.push((used.user + used.system) / 1000 / %d);
}
console.log(times.slice(times.length / 2).sort((a, b) => a - b)[%d]);
"""


def page(decoder: nn.Module, latent: int) -> str:
    """Return the page of an untrained VAE on images of 28 by 28."""
    bits = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0)) > 0.5
    data = Data.from_arrays(bits.float().numpy(), valid=10, test=20)
    pair = VAE(decoder=decoder, latent=latent, encoder=MLP((20,)))
    pair.build(data.train.x)
    return page_of([view_of(Run(pair, None, data))], "bits")


def milliseconds(text: str) -> float:
    """Return the CPU time of one decode by a page's own script."""
    folder = files("priory.evaluation.explorer")
    script = "".join((folder / f"{name}.js").read_text() for name in ("arrays", "worker"))
    values = text.split('id="values">')[1].split("</script>")[0]
    code = script + TIMED % (ROUNDS, EACH, EACH, ROUNDS // 2)
    node = shutil.which("node") or "node"
    done = subprocess.run(
        [node, "-e", code], input=values, capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout))


def main() -> None:
    """Print the cost of each decoder, and its page's size."""
    print(f"{'decoder':24}{'CPU ms a decode':>16}{'page, MB':>10}")
    for name, (decoder, latent) in DECODERS.items():
        text = page(decoder, latent)
        print(f"{name:24}{milliseconds(text):16.2f}{len(text) / 1e6:10.2f}")


if __name__ == "__main__":
    main()
