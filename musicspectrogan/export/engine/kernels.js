/**
 * Features in the memory of the WebAssembly kernels, and convolutions of them.
 */

class Kernels {
  /** @param {ArrayBuffer} code kernels.wasm */
  constructor(code) {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code));
    this.memory = exports.memory;
    this.convolve = exports.convolve;
    // What the module itself uses comes first.
    this.free = this.memory.buffer.byteLength / 4;
    this.floats = new Float32Array(this.memory.buffer);
  }

  /** Reserve so many zeros; returns the index of the first in `floats`. */
  allocate(count) {
    const start = this.free;
    this.free += Math.ceil(count / 4) * 4;
    const missing = this.free * 4 - this.memory.buffer.byteLength;
    if (missing > 0) {
      this.memory.grow(Math.ceil(missing / 65536));
      this.floats = new Float32Array(this.memory.buffer);
    }
    this.floats.fill(0, start, this.free);
    return start;
  }

  /** Give back all that `work` allocates; what it returns must not be in this memory. */
  temporarily(work) {
    const { free } = this;
    try {
      return work();
    } finally {
      this.free = free;
    }
  }
}

/** Numbers by row, column and channel, within a border of zeros. */
class Features {
  /**
   * @param {Kernels} kernels
   * @param {number} rows
   * @param {number} columns
   * @param {number} channels Rounded up to a multiple of four; those that no layer has are 0.
   * @param {number[]} border Rows above and below, and columns left and right.
   */
  constructor(kernels, rows, columns, channels, border = [0, 0]) {
    Object.assign(this, { rows, columns, channels: roundUp(channels), border });
    this.stride = (columns + 2 * border[1]) * this.channels;
    this.start = kernels.allocate((rows + 2 * border[0]) * this.stride);
  }

  /** Index of the first channel; rows and columns of the border are negative. */
  at(row, column) {
    const [above, left] = this.border;
    return this.start + (row + above) * this.stride + (column + left) * this.channels;
  }
}

function roundUp(channels) {
  return 4 * Math.ceil(channels / 4);
}

class Convolution {
  /**
   * @param {Kernels} kernels
   * @param {number} channels Of the output.
   * @param {number[]} kernel Rows, columns, and channels of the input with those that round it up.
   * @param {function(number, number, number, number): number} weight Of an output, a row, a column
   *   and a channel of the input.
   * @param {function(number): number} bias Of an output.
   */
  constructor(kernels, channels, kernel, weight, bias = () => 0) {
    const [rows, columns, inputs] = kernel;
    this.kernels = kernels;
    this.channels = roundUp(channels);
    this.kernel = kernel;
    this.weights = kernels.allocate(this.channels * rows * columns * inputs);
    this.bias = kernels.allocate(this.channels);
    for (let o = 0; o < channels; o++) kernels.floats[this.bias + o] = bias(o);
    // Outputs in groups of eight, and one of four at the end; see kernels.c.
    let place = this.weights;
    for (let first = 0; first < this.channels; first += 8) {
      const count = Math.min(8, this.channels - first);
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++)
          for (let input = 0; input < inputs; input++, place += count)
            for (let o = first; o < Math.min(first + count, channels); o++)
              kernels.floats[place + o - first] = weight(o, row, column, input);
    }
  }

  /**
   * @param {number} input Index of its first number.
   * @param {number} inputStride From one row to the next.
   * @param {number} output
   * @param {number} outputStride
   * @param {number} outputStep From one column to the next.
   * @param {number} rows Of the output.
   * @param {number} columns
   * @param {{slope?: number, accumulate?: boolean}} options Slope of LeakyReLU; add to the output.
   */
  apply(input, inputStride, output, outputStride, outputStep, rows, columns, options = {}) {
    const [kernelRows, kernelColumns, inputs] = this.kernel;
    this.kernels.convolve(
      4 * input, inputStride, inputs, kernelRows, kernelColumns * inputs,
      4 * this.weights, 4 * this.bias,
      4 * output, outputStride, outputStep, rows, columns, this.channels,
      options.slope ?? 1, options.accumulate ?? false,
    );
  }
}
