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
    return dtype === "uint16" ? stored : fromHalves(stored);
  }
}

/** Numbers in half precision, of which none is infinite, in single precision. */
function fromHalves(halves) {
  const numbers = new Float32Array(halves.length), bits = new Uint32Array(numbers.buffer);
  for (let i = 0; i < halves.length; i++)
    bits[i] = ((halves[i] & 0x8000) << 16) | ((halves[i] & 0x7fff) << 13);
  // Their exponents are still those of half precision.
  for (let i = 0; i < numbers.length; i++) numbers[i] *= 2 ** 112;
  return numbers;
}
