// The page: a map of codes, the point that is moved on it, and what the decoder makes of it.
const all = JSON.parse(document.getElementById('values').textContent);
const at = (id) => document.getElementById(id);
const tensors = [];
const datum = all.datum;
const worker = new Worker(URL.createObjectURL(
  new Blob([at('worker').textContent], { type: 'text/javascript' })));
const FRAMES = 9, NEAREST = 6, SLIDERS = 24;
// Hues that colour-blind readers tell apart (after Okabe and Ito), and ten shapes for the rest.
const HUES = {
  light: ['#0072b2', '#d55e00', '#007d5a', '#b0528c', '#8a6d00', '#2f9bd8', '#7a4dbf', '#555b63'],
  dark: ['#58b4ee', '#ff8f3f', '#2fc79a', '#e69ac8', '#e8d44d', '#9fd6ff', '#bfa0ff', '#b9bfc7']
};
const SHAPES = 10;
const state = { run: null, u: null, across: null, up: null, alone: null, seed: 1, ends: [0, 1] };
let waiting = new Map(), calls = 0;

// --- decoding ------------------------------------------------------------------------------------
async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).arrayBuffer();
}
worker.onmessage = function (event) {
  waiting.get(event.data.id)(event.data.found);
  waiting.delete(event.data.id);
};
worker.onerror = (event) => alertReader('The decoder has failed: ' + event.message);
function alertReader(text) { at('trouble').textContent = text; at('trouble').hidden = false; }

function decoded(points, options) {
  const run = state.run;
  if (run.grid) { return Promise.resolve(points.map((u) => fromGrid(run, u))); }
  return new Promise(function (resolve) {
    calls += 1;
    waiting.set(calls, resolve);
    const asked = { sampled: false, seed: state.seed, apart: false, ...options };
    worker.postMessage({
      id: calls, run: run.number, points: points.map((u) => Float32Array.from(u)), ...asked });
  });
}
function fromGrid(run, u) {
  const grid = run.grid, side = grid.side, size = datum.shape.reduce((a, b) => a * b, 1);
  let place = 0;
  slices(tensors[run.directions], run.latent).forEach(function (vector, k) {
    const p = along(run, u, { vector: vector, centre: tensors[run.centre] });
    const t = (p - grid.low[k]) / ((grid.high[k] - grid.low[k]) || 1);
    place += Math.round(Math.min(Math.max(t, 0), 1) * (side - 1)) * Math.pow(side, k);
  });
  return tensors[grid.x].subarray(place * size, (place + 1) * size);
}
async function check(run) {
  const d = run.decoder, n = tensors[d.points].length / run.latent, wanted = tensors[d.means];
  const found = await decoded(slices(tensors[d.points], run.latent), {});
  const size = wanted.length / n;
  const ranges = datum.kind === 'image' ? [datum.high - datum.low]
    : datum.high.map((high, i) => high - datum.low[i]);
  let most = 0;
  wanted.forEach(function (value, i) {
    const range = ranges[ranges.length > 1 ? i % size : 0] || 1;
    const apart = Math.abs(found[Math.floor(i / size)][i % size] - value) / range;
    most = Math.max(most, isNaN(apart) ? Infinity : apart);
  });
  run.apart = most;
  if (!(most < 5e-3)) {
    alertReader('The decoder of this page is off by ' + most.toPrecision(2) +
      ' of the data\u2019s range from the model\u2019s own: don\u2019t trust its pictures.');
  }
  notes(run);
}
function slices(flat, size) {
  const found = [];
  for (let i = 0; i < flat.length; i += size) { found.push(flat.subarray(i, i + size)); }
  return found;
}

// --- drawing one datum ---------------------------------------------------------------------------
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = () => matchMedia('(prefers-color-scheme: dark)').matches;
function grey(values) {  // bytes of rows that were packed, numbers that were decoded
  if (values instanceof Uint8Array) { return values; }
  const unit = 255 / ((datum.high - datum.low) || 1);
  return Uint8ClampedArray.from(values, (v) => Math.round((v - datum.low) * unit));
}
function paint(canvas, values, wide, high) {
  if (datum.kind === 'image') {
    const [channels, height, width] = datum.shape, bytes = grey(values), area = height * width;
    canvas.width = width;
    canvas.height = height;
    const picture = new ImageData(width, height);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) {
        picture.data[4 * i + c] = bytes[i + (channels === 3 ? c * area : 0)];
      }
      picture.data[4 * i + 3] = 255;
    }
    canvas.className = 'image';
    canvas.getContext('2d').putImageData(picture, 0, 0);
    return;
  }
  const scale = Math.min(window.devicePixelRatio || 1, 2), pen = canvas.getContext('2d');
  canvas.width = wide * scale;
  canvas.height = high * scale;
  canvas.className = 'chart';
  pen.scale(scale, scale);
  ({ point: scatter, bars: bars, line: line })[datum.kind](pen, values, wide, high);
}
const within = (v, i, low, high) => low + (high - low) *
  Math.min(Math.max((v - datum.low[i]) / ((datum.high[i] - datum.low[i]) || 1), -0.1), 1.1);
function scatter(pen, values, wide, high) {
  const dot = function (x, radius) {
    pen.beginPath();
    pen.arc(within(x[0], 0, 12, wide - 12), within(x[1], 1, high - 12, 12), radius, 0, 7);
    pen.fill();
  };
  const rows = state.run && state.run.test ? tensors[state.run.test.x] : [], small = wide < 200;
  pen.globalAlpha = 0.35;
  pen.fillStyle = colour('--soft');
  for (let i = 0; i < rows.length; i += 2) { dot(rows.subarray(i, i + 2), small ? 0.7 : 1.3); }
  pen.globalAlpha = 1;
  pen.fillStyle = colour('--accent');
  for (let i = 0; i < values.length; i += 2) { dot(values.slice(i, i + 2), values.length > 2 ? 2 : small ? 4 : 6); }
}
function bars(pen, values, wide, high) {
  const n = values.length, room = high / n, left = wide > 200 && room >= 13 ? 110 : 4;
  pen.font = '12px system-ui, sans-serif';
  pen.textBaseline = 'middle';
  values.forEach(function (v, i) {
    const y = i * room, zero = within(Math.max(Math.min(0, datum.high[i]), datum.low[i]), i, left, wide - 6);
    const end = within(v, i, left, wide - 6);
    pen.fillStyle = colour('--line');
    pen.fillRect(left, y + room / 2 - 0.5, wide - 6 - left, 1);
    pen.fillStyle = colour('--accent');
    pen.fillRect(Math.min(zero, end), y + room * 0.2, Math.max(Math.abs(end - zero), 2), room * 0.6);
    if (left > 4) {
      pen.fillStyle = colour('--ink');
      pen.fillText(short(datum.names[i], 9) + ' ' + number(v), 4, y + room / 2, left - 8);
    }
  });
}
function line(pen, values, wide, high) {
  const low = Math.min(...datum.low), most = Math.max(...datum.high), span = (most - low) || 1;
  pen.strokeStyle = colour('--accent');
  pen.lineWidth = 1.5;
  pen.beginPath();
  values.forEach(function (v, i) {
    pen.lineTo(4 + (wide - 8) * i / (values.length - 1), high - 6 - (high - 12) * (v - low) / span);
  });
  pen.stroke();
}
const short = (text, n) => (text.length > n ? text.slice(0, n - 1) + '\u2026' : text);
const number = (v) => (Math.abs(v) >= 1000 || (v && Math.abs(v) < 0.01) ? v.toExponential(1)
  : Number(v.toPrecision(3)).toString());
function element(tag, options, children) {
  const made = Object.assign(document.createElement(tag), options || {});
  (children || []).forEach((child) => made.append(child));
  return made;
}
function picture(values, label, wide, high) {
  const canvas = element('canvas');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', label);
  paint(canvas, values, wide || 120, high || 80);
  return canvas;
}

// --- axes and the map ----------------------------------------------------------------------------
function axesOf(run) {
  const directions = slices(tensors[run.directions], run.latent);
  const found = run.latent < 2 ? [] : directions.map((v, k) => (
    { name: 'PC ' + (k + 1) + ' (' + run.shares[k] + ')', vector: v, centre: tensors[run.centre] }));
  const coordinates = run.grid && run.latent > 1 ? [] : run.active.slice().sort((a, b) => a - b);
  return found.concat(coordinates.map(function (i) {
    const vector = new Float32Array(run.latent);
    vector[i] = 1;
    return { name: run.site + '[' + i + ']', vector: vector, centre: new Float32Array(run.latent) };
  }));
}
function along(run, u, axis) {
  let sum = 0;
  for (let i = 0; i < u.length; i++) { sum += (u[i] - axis.centre[i]) * axis.vector[i]; }
  return sum;
}
function place(run, u, i) {  // of a row i, if it is one: of one coordinate, classes stand apart
  const y = state.up ? along(run, u, state.up) : i === undefined ? 0
    : ((run.labels ? run.labels[i] : 0) + (i * 0.618 % 1) * 0.7) / (run.classes.length || 1) - 0.5;
  return [along(run, u, state.across), y];
}
function frame(run) {
  const sets = run.codes.concat(at('prior').checked ? run.draws : []);
  const places = sets.map((u, i) => place(run, u, i < run.codes.length ? i : undefined));
  const ends = [0, 1].map(function (k) {
    const values = places.map((p) => p[k]).sort((a, b) => a - b), cut = Math.floor(values.length / 500);
    const low = values[cut], high = values[values.length - 1 - cut], more = ((high - low) || 1) * 0.06;
    return [low - more, high + more];
  });
  return { ends: ends, places: places };
}
function screen(p) {
  const [x, y] = state.frame.ends, box = state.box;
  return [(p[0] - x[0]) / (x[1] - x[0]) * box.width, (1 - (p[1] - y[0]) / (y[1] - y[0])) * box.height];
}
function marker(pen, x, y, kind, r) {
  const path = (points) => points.forEach((p, i) => pen[i ? 'lineTo' : 'moveTo'](x + r * p[0], y + r * p[1]));
  pen.beginPath();
  const shape = kind % SHAPES;
  if (shape === 0) { pen.arc(x, y, r, 0, 7); }
  if (shape === 1) { path([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]); }
  if (shape === 2) { path([[0, -1.2], [1.1, 0.8], [-1.1, 0.8]]); }
  if (shape === 3) { path([[0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]]); }
  if (shape === 4) { path([[0, 1.2], [1.1, -0.8], [-1.1, -0.8]]); }
  if (shape === 5) { path([[-0.35, -1.2], [0.35, -1.2], [0.35, -0.35], [1.2, -0.35], [1.2, 0.35],
    [0.35, 0.35], [0.35, 1.2], [-0.35, 1.2], [-0.35, 0.35], [-1.2, 0.35], [-1.2, -0.35], [-0.35, -0.35]]); }
  if (shape === 6) { path([0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(function (k) {
    const size = k % 2 ? 0.55 : 1.3, angle = Math.PI * (k / 5 - 0.5);
    return [size * Math.cos(angle), size * Math.sin(angle)];
  })); }
  if (shape === 7) { path([[-1.3, -0.45], [1.3, -0.45], [1.3, 0.45], [-1.3, 0.45]]); }
  if (shape === 8) { path([[-0.45, -1.3], [0.45, -1.3], [0.45, 1.3], [-0.45, 1.3]]); }
  pen.closePath();
  if (shape === 9) { pen.arc(x, y, r * 0.8, 0, 7); pen.lineWidth = 1.4; pen.strokeStyle = pen.fillStyle; pen.stroke(); }
  else { pen.fill(); }
}
const hue = (k) => HUES[isDark() ? 'dark' : 'light'][k % 8];
function prepared(canvas) {
  const scale = Math.min(window.devicePixelRatio || 1, 2), pen = canvas.getContext('2d');
  canvas.width = state.box.width * scale;
  canvas.height = state.box.height * scale;
  pen.scale(scale, scale);
  return pen;
}
function drawPoints() {
  const run = state.run, box = at('map-box').getBoundingClientRect();
  state.box = { width: box.width - 2, height: box.height - 2 };
  state.frame = frame(run);
  const pen = prepared(at('points')), radius = run.codes.length > 800 ? 3 : 3.6;
  pen.fillStyle = colour('--soft');
  pen.globalAlpha = 0.6;
  state.frame.places.slice(run.codes.length).forEach(function (p) {
    const [x, y] = screen(p);
    pen.fillRect(x - 1, y - 1, 2, 2);
  });
  state.frame.places.slice(0, run.codes.length).forEach(function (p, i) {
    const label = run.labels ? run.labels[i] : 0, [x, y] = screen(p);
    const seen = state.alone === null || state.alone === label;
    pen.globalAlpha = seen ? 0.8 : 0.1;
    pen.fillStyle = label < 0 ? colour('--soft') : hue(label);
    marker(pen, x, y, label < 0 ? 9 : label, radius);
  });
  drawHandle();
}
function drawHandle() {
  const run = state.run, pen = prepared(at('map')), [x, y] = screen(place(run, state.u));
  const ring = function (x, y, r, width, ink) {
    pen.beginPath();
    pen.arc(x, y, r, 0, 7);
    pen.lineWidth = width;
    pen.strokeStyle = ink;
    pen.stroke();
  };
  if (!run.grid) {
    pen.font = 'bold 13px system-ui, sans-serif';
    state.ends.forEach(function (row, k) {
      const [a, b] = screen(state.frame.places[row]);
      ring(a, b, 7, 4, colour('--bg'));
      ring(a, b, 7, 2, colour('--ink'));
      pen.lineWidth = 4;
      pen.strokeStyle = colour('--bg');
      pen.strokeText('AB'[k], a + 9, b - 7);
      pen.fillStyle = colour('--ink');
      pen.fillText('AB'[k], a + 9, b - 7);
    });
  }
  ring(x, y, 10, 6, colour('--bg'));
  ring(x, y, 10, 3, colour('--ink'));
  pen.beginPath();
  pen.arc(x, y, 2.5, 0, 7);
  pen.fillStyle = colour('--ink');
  pen.fill();
}

// --- the point -----------------------------------------------------------------------------------
function moveTo(p) {  // the change within the plane of the two axes
  const run = state.run, a = state.across.vector, b = state.up && state.up.vector;
  const now = place(run, state.u), da = p[0] - now[0], db = state.up ? p[1] - now[1] : 0;
  const cosine = b ? a.reduce((sum, v, i) => sum + v * b[i], 0) : 0, rest = 1 - cosine * cosine;
  const [ka, kb] = rest > 1e-6 ? [(da - cosine * db) / rest, (db - cosine * da) / rest] : [da, 0];
  state.u = state.u.map((v, i) => v + ka * a[i] + (b ? kb * b[i] : 0));
  moved();
}
function nearest(codes, u, count) {
  const apart = codes.map(function (code, i) {
    let sum = 0;
    for (let k = 0; k < u.length; k++) { sum += (code[k] - u[k]) * (code[k] - u[k]); }
    return [Math.sqrt(sum), i];
  });
  return apart.sort((a, b) => a[0] - b[0]).slice(0, count);
}
let busy = false, again = false, timer = null;
async function moved() {
  drawHandle();
  sliderValues();
  if (busy) { again = true; return; }
  busy = true;
  const u = state.u, sampled = at('sampled').checked && !state.run.grid;
  const [values] = await decoded([u], { sampled: sampled });
  show(values, sampled);
  showNearest(u);
  busy = false;
  clearTimeout(timer);
  timer = setTimeout(speak, 400);
  if (again) { again = false; moved(); }
}
function position() {
  const run = state.run, p = place(run, state.u);
  const parts = [state.across.name.split(' (')[0] + ' ' + p[0].toFixed(2)];
  if (state.up) { parts.push(state.up.name.split(' (')[0] + ' ' + p[1].toFixed(2)); }
  return parts.join(', ');
}
function show(values, sampled) {
  at('datum').parentNode.classList.toggle('chart', datum.kind !== 'image');
  const box = at('datum'), rows = datum.kind === 'bars' ? Math.max(160, 18 * values.length) : 240;
  const noun = { image: 'image', point: 'point', bars: 'row', line: 'series' }[datum.kind];
  const kind = (state.run.grid ? 'nearest decoded ' : '') + (sampled ? 'sample' : 'mean ' + noun);
  const canvas = picture(values, 'Decoded ' + kind + ' at ' + position(), box.clientWidth || 300, rows);
  box.replaceChildren(canvas);
  let text = (sampled ? 'A sample' : 'The mean') + ' of p(x | z) at ' +
    (state.run.grid ? 'the place of the grid nearest to ' : '') + position();
  if (datum.kind === 'point') { text += ': (' + number(values[0]) + ', ' + number(values[1]) + ')'; }
  at('what').textContent = text;
  state.values = values;
}
function rowName(rows, i, run) {
  const y = rows.y === null ? null : tensors[rows.y][i], k = tensors[rows.number][i];
  const label = y === null || !run.classes.length ? '' : ', ' + (y < 0 ? 'no label' : 'label ' + run.classes[y]);
  return 'row ' + k + label;
}
function showNearest(u) {
  const run = state.run, box = at('nearest');
  if (!run.train) { return; }
  const size = datum.shape.reduce((a, b) => a * b, 1);
  const found = nearest(run.known, u, NEAREST);
  run.near = found.map((pair) => rowName(run.train, pair[1], run));
  box.className = datum.kind === 'image' ? 'strip' : 'strip chart';
  box.replaceChildren(...found.map(function (pair, k) {
    const values = tensors[run.train.x].subarray(pair[1] * size, (pair[1] + 1) * size);
    const item = element('figure', {}, [
      picture(values, 'Training ' + run.near[k]),
      element('figcaption', { textContent: run.near[k].replace('row ', '').replace('label ', '') })]);
    item.setAttribute('role', 'listitem');
    return item;
  }));
}
function speak() {
  const run = state.run;
  let text = 'Point at ' + position() + '. ';
  if (run.near) { text += 'Nearest training rows: ' + run.near.slice(0, 3).join('; ') + '. '; }
  if (datum.kind !== 'image') {
    text += Array.from(state.values).slice(0, 6).map((v, i) => datum.names[i] + ' ' + number(v)).join(', ');
  }
  at('live').textContent = text;
}

// --- sliders, ways, samples ----------------------------------------------------------------------
function makeSliders() {
  const run = state.run, low = tensors[run.low], high = tensors[run.high];
  at('sliders-part').hidden = Boolean(run.grid);
  at('sliders').replaceChildren();
  if (run.grid) { return; }
  const shown = run.active.slice(0, SLIDERS), rest = run.latent - shown.length;
  at('sliders-note').textContent = 'Those that vary most with the data first' + (rest
    ? '; ' + rest + ' of ' + run.latent + ' are left out, as they vary less' : '') + '.';
  at('sliders').replaceChildren(...shown.map(function (i) {
    const input = element('input', {
      type: 'range', min: low[i], max: high[i], step: (high[i] - low[i]) / 200 });
    const label = element('label', {}, [
      element('span', { textContent: run.site + '[' + i + ']' }), input, element('output')]);
    input.dataset.coordinate = i;
    input.addEventListener('input', function () {
      state.u = state.u.slice();
      state.u[i] = Number(input.value);
      moved();
    });
    return label;
  }));
}
function sliderValues() {
  document.querySelectorAll('#sliders input').forEach(function (input) {
    const value = state.u[Number(input.dataset.coordinate)];
    if (document.activeElement !== input) { input.value = value; }
    input.nextSibling.textContent = value.toFixed(2);
  });
}
function straight(a, b, t) { return Array.from(a, (v, i) => (1 - t) * v + t * b[i]); }
function spherical(a, b, t) {  // directions turn at an even rate, norms change evenly
  const norm = (x) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));
  const [p, q] = [norm(a), norm(b)], cosine = a.reduce((sum, v, i) => sum + v * b[i], 0) / (p * q);
  const angle = Math.acos(Math.min(Math.max(cosine, -1), 1)), sine = Math.sin(angle);
  if (!(p * q) || sine < 1e-4) { return straight(a, b, t); }
  const size = (1 - t) * p + t * q;
  return Array.from(a, (v, i) => size * (
    Math.sin((1 - t) * angle) * v / p + Math.sin(t * angle) * b[i] / q) / sine);
}
async function drawWays() {
  const run = state.run, [a, b] = state.ends;
  at('ways-part').hidden = Boolean(run.grid);
  if (run.grid) { return; }
  drawHandle();
  const noun = run.encoded ? 'test ' : 'sample, ';
  at('ways-note').textContent = 'A is ' + noun + rowName(run.test, a, run) + '; B is ' + noun +
    rowName(run.test, b, run) + '. Both are marked on the map; the ends are their reconstructions.';
  const kinds = run.straight ? { Straight: straight, Spherical: spherical } : { Straight: straight };
  const parts = [];
  for (const [name, way] of Object.entries(kinds)) {
    const points = Array.from({ length: FRAMES }, (_, k) => way(run.codes[a], run.codes[b], k / (FRAMES - 1)));
    const frames = await decoded(points, {});
    const strip = element('div', { className: 'strip nine' + (datum.kind === 'image' ? '' : ' chart') },
      frames.map((values, k) => picture(values, (k + 1) + ' of ' + FRAMES)));
    strip.setAttribute('role', 'group');
    strip.setAttribute('aria-label', name + ' way from A to B in ' + FRAMES + ' steps');
    parts.push(element('div', { className: 'way' }, [element('h3', { textContent: name }), strip]));
  }
  at('ways').replaceChildren(...parts);
}
function drawSamples() {
  const size = datum.shape.reduce((a, b) => a * b, 1);
  const words = { x_mean: 'Means of p(x | z)', x: 'Samples of p(x | z)' };
  at('samples').replaceChildren(...all.runs.map(function (run) {
    const card = element('div', { className: 'card' }, [element('h3', { textContent: run.name })]);
    if (run.reason) {
      card.append(element('p', { className: 'sub', textContent: 'No map of its latents: ' + run.reason + '.' }));
    }
    ['x_mean', 'x'].filter((k) => k in run.samples).forEach(function (k) {
      const values = tensors[run.samples[k]], n = values.length / size;
      card.append(element('h4', { textContent: words[k] }));
      if (datum.kind === 'point') {
        card.append(element('div', { className: 'datum chart' },
          [picture(values, n + ' ' + words[k].toLowerCase(), 280, 240)]));
        return;
      }
      const image = datum.kind === 'image';
      const grid = slices(values, size).slice(0, image ? 24 : 9).map((x, i) => picture(x, 'sample ' + (i + 1)));
      const many = element('div', { className: image ? 'many' : 'many wide' }, grid);
      many.setAttribute('role', 'group');
      many.setAttribute('aria-label', words[k] + ' of ' + run.name);
      card.append(many);
    });
    return card;
  }));
}

// --- starting ------------------------------------------------------------------------------------
function notes(run) {
  const lines = [], rows = run.encoded ? 'test rows' : 'draws of the prior, as there is no encoder';
  lines.push('The map shows ' + run.test.n.toLocaleString('en') +
    (run.encoded ? ' of ' + run.test.total.toLocaleString('en') : '') + ' ' + rows + ', by ' +
    (run.encoded ? 'their posterior means' : 'their latents') + (run.train ?
      '; the nearest training rows are sought among ' + run.train.n.toLocaleString('en') + ' of ' +
      run.train.total.toLocaleString('en') : '') + '.');
  if (run.decoder) {
    lines.push('The decoder has ' + run.decoder.records.length + ' layers and ' +
      run.decoder.weights.toLocaleString('en') + ' numbers, its matrices in ' +
      (run.decoder.half ? 'half' : 'single') + ' precision' + (run.apart === undefined ? '.' :
        '; it agrees with the model\u2019s own to ' + run.apart.toExponential(1) +
        ' of the data\u2019s range.'));
  }
  if (run.grid) {
    lines.push('Nothing is decoded here: ' + run.grid.reason + '. A grid of ' + run.grid.side +
      (run.grid.low.length > 1 ? ' by ' + run.grid.side : '') +
      ' places of this map was decoded beforehand, and the nearest is shown.');
  }
  if (!run.straight) { lines.push('Points are coordinates that keep z inside of its support.'); }
  at('notes').replaceChildren(...lines.map((text) => element('p', { textContent: text })));
}
function choose(select, axes, chosen) {
  select.replaceChildren(...axes.map((axis, i) => element('option', { value: i, textContent: axis.name })));
  select.value = axes.indexOf(chosen);
}
function legend(run) {
  at('legend').hidden = run.classes.length < 2;
  at('legend').replaceChildren(...run.classes.map(function (name, k) {
    const canvas = element('canvas', { width: 28, height: 28 }), pen = canvas.getContext('2d');
    pen.fillStyle = hue(k);
    marker(pen, 14, 14, k, 9);
    const button = element('button', { type: 'button' }, [canvas, name]);
    button.setAttribute('aria-pressed', state.alone === k);
    button.addEventListener('click', function () {
      state.alone = state.alone === k ? null : k;
      Array.from(at('legend').querySelectorAll('button')).forEach((other, i) =>
        other.setAttribute('aria-pressed', state.alone === i));
      drawPoints();
    });
    return element('li', {}, [button]);
  }));
}
function open(number) {
  const run = all.runs[number];
  state.run = run;
  state.alone = null;
  at('trouble').hidden = true;
  ['space', 'sliders-part', 'ways-part', 'notes'].forEach((id) => { at(id).hidden = Boolean(run.reason); });
  at('facts').textContent = run.reason ? 'No map of the latents of ' + run.name + ': ' + run.reason + '.'
    : run.latent + (run.latent === 1 ? ' latent coordinate, ' : ' latent coordinates, ') +
      (run.varying ? run.varying + (run.varying === 1 ? ' varies' : ' vary') + ' with the data.' :
        'none varies with the data: the posterior has collapsed.');
  if (run.reason) { return; }
  run.codes = slices(tensors[run.test.codes], run.latent);
  run.labels = run.test.y === null ? null : tensors[run.test.y];
  run.known = run.train ? slices(tensors[run.train.codes], run.latent) : [];
  run.draws = run.prior === null ? [] : slices(tensors[run.prior], run.latent);
  run.axes = axesOf(run);
  [state.across, state.up] = [run.axes[0], run.axes[1] || null];
  if (run.latent === 2 && !run.grid) { [state.across, state.up] = [run.axes[2], run.axes[3] || run.axes[1]]; }
  choose(at('across'), run.axes, state.across);
  choose(at('up'), run.axes, state.up);
  at('up').parentNode.hidden = run.axes.length < 2;
  at('prior-label').hidden = !run.draws.length;
  at('space-note').textContent = run.grid ? 'Of this run a grid of decoded places stands in: '
    + run.grid.reason + '.' : '';
  const canSample = run.decoder && run.decoder.head.kind !== 'mean';
  at('show').hidden = !canSample;
  at('sampled').checked = at('sampled').checked && canSample;
  at('nearest-title').hidden = at('nearest').hidden = !run.train;
  state.u = Float64Array.from(run.codes[Math.min(run.codes.length - 1, 3)]);
  const other = run.labels ? run.labels.findIndex((y) => y !== run.labels[0]) : -1;
  state.ends = [0, other < 0 ? Math.min(run.codes.length - 1, 1) : other];
  legend(run);
  makeSliders();
  drawPoints();
  if (run.decoder && !run.sent) {
    const d = run.decoder, held = d.held.map((i) => tensors[i]);
    const units = d.scale === null ? {} : { scale: tensors[d.scale], mean: tensors[d.mean] };
    worker.postMessage({ run: number, decoder: {
      records: d.records, held: held, head: d.head, size: d.size, ...units } });
    run.sent = true;
    check(run);
  }
  notes(run);
  moved();
  drawWays();
}
function listen() {
  const map = at('map');
  const pointed = function (event) {
    const box = map.getBoundingClientRect(), [x, y] = state.frame.ends;
    moveTo([x[0] + (event.clientX - box.left) / box.width * (x[1] - x[0]),
      y[1] - (event.clientY - box.top) / box.height * (y[1] - y[0])]);
  };
  map.addEventListener('pointerdown', function (event) {
    map.setPointerCapture(event.pointerId);
    pointed(event);
  });
  map.addEventListener('pointermove', (event) => { if (event.buttons) { pointed(event); } });
  map.addEventListener('keydown', function (event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const run = state.run, [x, y] = state.frame.ends, p = place(run, state.u);
    const step = steps[event.key], size = event.shiftKey ? 0.1 : 0.02;
    if (step) { moveTo([p[0] + step[0] * size * (x[1] - x[0]), p[1] + step[1] * size * (y[1] - y[0])]); }
    else if (event.key === 'Home') { state.u = Float64Array.from(tensors[run.centre]); moved(); }
    else if (event.key === 'n' || event.key === 'N') {
      state.row = ((state.row === undefined ? -1 : state.row) + 1) % run.codes.length;
      state.u = Float64Array.from(run.codes[state.row]);
      moved();
    } else { return; }
    event.preventDefault();
  });
  ['across', 'up'].forEach((id) => at(id).addEventListener('change', function () {
    const other = id === 'up' ? 'across' : 'up', axis = state.run.axes[Number(at(id).value)];
    if (axis === state[other]) { state[other] = state[id]; choose(at(other), state.run.axes, state[other]); }
    state[id] = axis;
    drawPoints();
    moved();
  }));
  at('prior').addEventListener('change', drawPoints);
  document.querySelectorAll('input[name=show]').forEach((radio) => radio.addEventListener('change', moved));
  at('again').addEventListener('click', function () {
    state.seed += 1;
    at('sampled').checked = true;
    moved();
  });
  const near = () => nearest(state.run.codes, state.u, 1)[0][1];
  at('start').addEventListener('click', () => { state.ends = [near(), state.ends[1]]; drawWays(); });
  at('end').addEventListener('click', () => { state.ends = [state.ends[0], near()]; drawWays(); });
  at('random').addEventListener('click', function () {
    const any = () => Math.floor(Math.random() * state.run.codes.length);
    state.ends = [any(), any()];
    drawWays();
  });
  at('run').addEventListener('change', () => open(Number(at('run').value)));
  const redraw = function () {
    drawSamples();
    if (!state.run.reason) { legend(state.run); drawPoints(); moved(); drawWays(); }
  };
  let width = window.innerWidth;
  window.addEventListener('resize', function () {
    if (window.innerWidth !== width) { width = window.innerWidth; redraw(); }
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
}
(async function () {
  for (const held of all.tensors) { tensors.push(unpack(held.type, await inflate(held.data))); }
  all.runs.forEach((run, i) => { run.number = i; });
  at('which').hidden = all.runs.length < 2;
  at('run').replaceChildren(...all.runs.map((run, i) => element('option', { value: i, textContent: run.name })));
  const first = all.runs.findIndex((run) => !run.reason);
  at('run').value = first;
  open(first);
  drawSamples();
  listen();
  document.body.dataset.ready = 'yes';
  if (window.frameElement) {  // within a report, which scrolls for both
    new ResizeObserver(function () {
      window.frameElement.style.height = document.querySelector('main').offsetHeight + 8 + 'px';
    }).observe(document.querySelector('main'));
  }
})().catch((error) => alertReader('The page cannot be shown: ' + error.message));
