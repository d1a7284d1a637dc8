'use strict';
// Arrays as the page holds them: half-precision numbers, integers, and their own bytes.
const halves = (function () {
  const table = new Float32Array(65536);
  for (let i = 0; i < 65536; i++) {
    const sign = i & 0x8000 ? -1 : 1, exponent = (i >> 10) & 31, rest = i & 1023;
    if (exponent === 0) { table[i] = sign * rest * Math.pow(2, -24); }
    else if (exponent === 31) { table[i] = rest ? NaN : sign * Infinity; }
    else { table[i] = sign * (1 + rest / 1024) * Math.pow(2, exponent - 15); }
  }
  return table;
})();

function unpack(type, buffer) {
  if (type === 'f16') { return Float32Array.from(new Uint16Array(buffer), (i) => halves[i]); }
  const kinds = { f32: Float32Array, f64: Float64Array, u8: Uint8Array, i32: Int32Array };
  return new kinds[type](buffer);
}
