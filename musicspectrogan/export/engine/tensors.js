/**
 * The weights, which the page holds in half precision.
 */

class Tensors {
  /**
   * @param {Object<string, {shape: number[], dtype: string, offset: number}>} table
   * @param {ArrayBuffer} weights
   */
  constructor(table, weights) {
    Object.assign(this, { table, weights });
  }

  shape(name) {
    return this.table[name].shape;
  }

  /** The numbers of a tensor, the last axis fastest. */
  get(name) {
    const { shape, dtype, offset } = this.table[name];
    const count = shape.reduce((product, size) => product * size, 1);
    if (dtype === "float32") return new Float32Array(this.weights, offset, count);
    const stored = new Uint16Array(this.weights, offset, count);
    return dtype === "uint16" ? stored : Float32Array.from(stored, fromHalf);
  }
}

/** The number with these 16 bits, by IEEE 754. */
function fromHalf(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
  return bits & 0x8000 ? -size : size;
}
