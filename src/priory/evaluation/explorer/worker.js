// The decoder: a list of layers over flat arrays of one datum. Value 0 is the latent.
function erf(x) {  // Abramowitz and Stegun 7.1.26 has 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 +
    t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const within = (x, low, high) => Math.min(Math.max(x, low === null ? -Infinity : low),
  high === null || high === undefined ? Infinity : high);
const even = (x) => { const r = Math.round(x); return Math.abs(x % 1) === 0.5 && r % 2 ? r - 1 : r; };
const softplus = (x, beta, most) => (x * beta > most ? x : Math.log1p(Math.exp(x * beta)) / beta);

const unary = {
  abs: Math.abs, ceil: Math.ceil, cos: Math.cos, erf: erf, exp: Math.exp, expm1: Math.expm1,
  floor: Math.floor, log: Math.log, log1p: Math.log1p, round: even, sign: Math.sign,
  sigmoid: sigmoid, sin: Math.sin, sqrt: Math.sqrt, tanh: Math.tanh,
  neg: (x) => -x, reciprocal: (x) => 1 / x, rsqrt: (x) => 1 / Math.sqrt(x),
  relu: (x) => Math.max(x, 0), leaky_relu: (x, slope) => (x > 0 ? x : slope * x),
  elu: (x, alpha, scale, inner) => scale * (x > 0 ? x : alpha * Math.expm1(x * inner)),
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))),
  silu: (x) => x * sigmoid(x), softplus: softplus,
  mish: (x) => x * Math.tanh(softplus(x, 1, 20)),
  log_sigmoid_forward: (x) => -softplus(-x, 1, 700),
  hardsigmoid: (x) => within(x / 6 + 0.5, 0, 1), hardswish: (x) => x * within(x / 6 + 0.5, 0, 1),
  hardtanh: within, clamp: within, clamp_min: (x, low) => Math.max(x, low),
  clamp_max: (x, high) => Math.min(x, high),
  logit: (x, eps) => {
    const p = eps === null ? x : within(x, eps, 1 - eps);
    return Math.log(p / (1 - p));
  }
};
const binary = {
  add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b,
  maximum: Math.max, minimum: Math.min, pow: Math.pow, gt: (a, b) => +(a > b),
  ge: (a, b) => +(a >= b), lt: (a, b) => +(a < b), le: (a, b) => +(a <= b),
  eq: (a, b) => +(a === b), ne: (a, b) => +(a !== b)
};

const layers = {
  constant: (layer, out, inputs, held) => out.set(held[layer.weight]),
  gather: function (layer, out, inputs, held) {
    let all = inputs[0];
    if (inputs.length > 1) {
      all = new Float32Array(inputs.reduce((sum, x) => sum + x.length, 0));
      inputs.reduce((start, x) => { all.set(x, start); return start + x.length; }, 0);
    }
    const index = held[layer.index];
    for (let i = 0; i < out.length; i++) { out[i] = index[i] ? all[index[i] - 1] : layer.fill; }
  },
  where: function (layer, out, inputs) {
    const at = (x, i) => (x.length === 1 ? x[0] : x[i]);
    for (let i = 0; i < out.length; i++) {
      out[i] = at(inputs[0], i) ? at(inputs[1], i) : at(inputs[2], i);
    }
  },
  linear: function (layer, out, inputs, held) {
    const x = inputs[0], w = held[layer.weight], n = layer.inputs, bias = held[layer.bias];
    const outputs = w.length / n;
    for (let o = 0; o < out.length; o++) {
      const row = Math.floor(o / outputs) * n, column = o % outputs, start = column * n;
      let sum = bias ? bias[column] : 0;
      for (let i = 0; i < n; i++) { sum += w[start + i] * x[row + i]; }
      out[o] = sum;
    }
  },
  convolution: function (layer, out, inputs, held) {
    // Each weight meets a lattice of places: of the smaller array for a transposed convolution.
    const x = inputs[0], w = held[layer.weight], turned = layer.transposed;
    const [near, far] = turned ? [layer.sides[1], layer.sides[0]] : layer.sides;
    const [h, wide] = near, [oh, owide] = far, [kh, kw] = layer.kernel;
    const ins = layer.channels[0] / layer.groups, outs = layer.channels[1] / layer.groups;
    const inner = layer.sides[0][0] * layer.sides[0][1], outer = out.length / layer.channels[1];
    if (layer.bias !== undefined) {
      for (let i = 0; i < out.length; i++) { out[i] = held[layer.bias][Math.floor(i / outer)]; }
    }
    for (let g = 0; g < layer.groups; g++) {
      for (let a = 0; a < ins; a++) { for (let b = 0; b < outs; b++) {
        const from = (g * ins + a) * inner, to = (g * outs + b) * outer;
        const first = (turned ? (g * ins + a) * outs + b : (g * outs + b) * ins + a) * kh * kw;
        for (let ky = 0; ky < kh; ky++) { for (let kx = 0; kx < kw; kx++) {
          const v = w[first + ky * kw + kx];
          const dx = kx * layer.dilation[1] - layer.padding[1], sx = layer.stride[1];
          const low = Math.max(0, Math.ceil(-dx / sx));
          const high = Math.min(owide - 1, Math.floor((wide - 1 - dx) / sx));
          for (let y = 0; y < oh; y++) {
            const row = y * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0];
            if (row < 0 || row >= h) { continue; }
            const big = row * wide + dx, small = y * owide;
            if (turned) {
              for (let i = low; i <= high; i++) { out[to + big + i * sx] += v * x[from + small + i]; }
            } else {
              for (let i = low; i <= high; i++) { out[to + small + i] += v * x[from + big + i * sx]; }
            }
          }
        } }
      } }
    }
  },
  mix: function (layer, out, inputs, held) {
    const x = inputs[0], start = held[layer.start], index = held[layer.index];
    const weight = held[layer.weight], rows = start.length - 1, each = x.length / layer.channels;
    for (let o = 0; o < out.length; o++) {
      const r = o % rows, first = Math.floor(o / rows) * each;
      let sum = 0;
      for (let k = start[r]; k < start[r + 1]; k++) { sum += weight[k] * x[first + index[k]]; }
      out[o] = sum;
    }
  },
  scale: function (layer, out, inputs, held) {
    const w = held[layer.weight], b = held[layer.bias], x = inputs[0];
    for (let i = 0; i < out.length; i++) {
      const group = Math.floor(i / layer.inner) % w.length;
      out[i] = x[i] * w[group] + b[group];
    }
  },
  normalise: (layer, out, inputs) => parts(layer, out, inputs[0], function (x, y) {
    let mean = 0, square = 0;
    x.forEach((v) => { mean += v / x.length; });
    x.forEach((v) => { square += (v - mean) * (v - mean) / x.length; });
    x.forEach((v, i) => { y[i] = (v - mean) / Math.sqrt(square + layer.eps); });
  }),
  softmax: (layer, out, inputs) => parts(layer, out, inputs[0], function (x, y) {
    const most = Math.max(...x);
    let sum = 0;
    x.forEach((v, i) => { y[i] = Math.exp(v - most); sum += y[i]; });
    x.forEach((_, i) => { y[i] /= sum; });
  }),
  cumprod: (layer, out, inputs) => parts(layer, out, inputs[0], function (x, y) {
    let product = 1;
    x.forEach((v, i) => { product *= v; y[i] = product; });
  })
};

function parts(layer, out, x, map) {
  for (let i = 0; i < x.length; i += layer.length) {
    map(x.subarray(i, i + layer.length), out.subarray(i, i + layer.length));
  }
}

function run(records, held, u) {
  const values = [u];
  records.forEach(function (layer) {
    const inputs = layer.from.map((i) => values[i]), out = new Float32Array(layer.size);
    const one = unary[layer.kind], two = binary[layer.kind];
    if (one) {
      const [a, b, c] = layer.options;
      for (let i = 0; i < out.length; i++) { out[i] = one(inputs[0][i], a, b, c); }
    } else if (two) {
      const [a, b] = inputs, da = +(a.length > 1), db = +(b.length > 1);
      for (let i = 0; i < out.length; i++) { out[i] = two(a[i * da], b[i * db]); }
    } else { layers[layer.kind](layer, out, inputs, held); }
    values.push(out);
  });
  return values;
}

// --- p(x | z): its mean, and draws ---------------------------------------------------------------
function stream(seed) {  // numbers in (0, 1), the same for a seed
  let state = seed >>> 0;
  return function () {
    state = (state + 0x6D2B79F5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
}
const gauss = (draw) => Math.sqrt(-2 * Math.log(draw())) * Math.cos(2 * Math.PI * draw());
const cdfs = { logistic: sigmoid, 'discretized-normal': (x) => 0.5 * (1 + erf(x * Math.SQRT1_2)) };

function levelled(head, loc, logScale) {
  const top = head.levels - 1, cdf = cdfs[head.kind];
  const rate = Math.exp(-Math.max(logScale, head.least));
  let sum = 0;
  for (let k = 1; k <= top; k++) { sum += cdf((loc - (k - 0.5) / top) * rate); }
  return sum / top;
}
function meanOfContinuousBernoulli(logit) {
  const h = logit / 2;
  if (Math.abs(h) < 0.01) { return 0.5 + h / 6; }
  return 0.5 + 0.5 * (1 / Math.tanh(h) - 1 / h);
}
const means = {
  mean: (head, a) => a, bernoulli: (head, a) => sigmoid(a), normal: (head, a) => a,
  'continuous-bernoulli': (head, a) => meanOfContinuousBernoulli(a),
  logistic: levelled, 'discretized-normal': levelled
};
function rounded(head, loc, logScale, noise) {
  const top = head.levels - 1, x = loc + Math.exp(within(logScale, head.least, 80)) * noise;
  return within(Math.round(within(x, -1, 2) * top), 0, top) / top;
}
const samples = {
  bernoulli: (head, draw, a) => +(draw() < sigmoid(a)),
  normal: (head, draw, a, b) => a + Math.exp(b) * gauss(draw),
  'continuous-bernoulli': function (head, draw, a) {
    const rate = Math.max(Math.abs(a), 1e-6);
    const x = within(-Math.log1p(draw() * Math.expm1(-rate)) / rate, 0, 1);
    return a > 0 ? 1 - x : x;
  },
  logistic: (head, draw, a, b) => rounded(head, a, b, unary.logit(draw(), null)),
  'discretized-normal': (head, draw, a, b) => rounded(head, a, b, gauss(draw))
};

function decode(decoder, u, sampled, seed) {
  const values = run(decoder.records, decoder.held, u), head = decoder.head;
  const [a, b] = head.of.map((i) => values[i]), out = new Float64Array(decoder.size);
  const draw = stream(seed || 0), at = (x, i) => (x ? x[x.length === 1 ? 0 : i] : 0);
  for (let i = 0; i < out.length; i++) {
    out[i] = sampled && samples[head.kind] ? samples[head.kind](head, draw, at(a, i), at(b, i))
      : means[head.kind](head, at(a, i), at(b, i));
    if (decoder.scale) { out[i] = out[i] * decoder.scale[i] + decoder.mean[i]; }
  }
  return out;
}

if (typeof importScripts === 'function') {
  const decoders = {};
  self.onmessage = function (event) {
    const given = event.data;
    if (given.decoder) { decoders[given.run] = given.decoder; return; }
    const found = given.points.map((u, i) => decode(
      decoders[given.run], u, given.sampled, given.seed + (given.apart ? i : 0)));
    self.postMessage({ id: given.id, found: found });
  };
}
