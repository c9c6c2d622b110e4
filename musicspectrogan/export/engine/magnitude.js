/**
 * From grey levels to Fourier magnitudes: a non-negative fit, and the vocoder that refines it; see
 * `magnitude.py` and `vocoder.py`.
 */

// Avoids dividing 0 by 0.
const EPSILON = 1e-20;

/** The triangular filters of the mel bands: a bin is in at most two bands, one above the other. */
class MelFilters {
  /**
   * @param {Tensors} tensors
   * @param {number} bands
   */
  constructor(tensors, bands) {
    this.band = tensors.get("filters.first");
    this.weights = tensors.get("filters.weights");
    this.bands = bands;
    const bins = this.band.length;
    this.bins = bins;
    const bandSums = new Float64Array(bands);
    this.spread = new Float32Array(2 * bins);
    for (let bin = 0; bin < bins; bin++) {
      const sum = Math.max(this.weights[2 * bin] + this.weights[2 * bin + 1], EPSILON);
      for (const above of [0, 1]) {
        const weight = this.weights[2 * bin + above];
        bandSums[this.band[bin] + above] += weight;
        this.spread[2 * bin + above] = weight / sum;
      }
    }
    this.bandSums = bandSums.map((sum) => Math.max(sum, EPSILON));
  }

  /** Sums of bins in each band. */
  inBands(power) {
    const sums = new Float64Array(this.bands);
    for (let bin = 0; bin < this.bins; bin++) {
      sums[this.band[bin]] += power[bin] * this.weights[2 * bin];
      sums[this.band[bin] + 1] += power[bin] * this.weights[2 * bin + 1];
    }
    return sums;
  }

  /** Non-negative power (bins,) of a frame whose power in mel bands is `mel` (bands,). */
  fit(mel, steps) {
    const power = new Float64Array(this.bins).fill(1);
    let ratio = new Float64Array(this.bands);
    for (let band = 0; band < this.bands; band++) ratio[band] = mel[band] / this.bandSums[band];
    for (let step = 0; ; step++) {
      for (let bin = 0; bin < this.bins; bin++) {
        const band = this.band[bin];
        power[bin] *=
          ratio[band] * this.spread[2 * bin] + ratio[band + 1] * this.spread[2 * bin + 1];
      }
      if (step === steps) return power;
      ratio = this.inBands(power);
      for (let band = 0; band < this.bands; band++)
        ratio[band] = mel[band] / Math.max(ratio[band], EPSILON);
    }
  }
}

/**
 * Magnitudes by the fit alone.
 *
 * @param {Object} instrument
 * @param {Uint8Array[]} columns Grey levels of each, the lowest band first.
 * @returns {Float32Array} (columns, bins)
 */
function fittedMagnitude({ filters, description }, columns) {
  const decades = description.top_db / 10;
  const magnitude = new Float32Array(columns.length * filters.bins);
  columns.forEach((column, t) => {
    const powerOf = (grey) => (grey ? 10 ** ((grey / 255 - 1) * decades) : 0);
    const mel = Float64Array.from(column, powerOf);
    const power = filters.fit(mel, description.inversion.power_steps);
    magnitude.set(power.map(Math.sqrt), t * filters.bins);
  });
  return magnitude;
}

/** The learned vocoder. Its features have columns of the image as rows, and bands as columns. */
class Vocoder {
  constructor(kernels, tensors, filters, description) {
    Object.assign(this, { kernels, filters, description });
    this.settings = description.vocoder;
    // Each bin is between two sub-bands.
    this.places = tensors.get("vocoder.bins.first");
    this.shares = tensors.get("vocoder.bins.weights");
    const convolution = (name) => {
      const weights = tensors.get(`${name}.weight`), bias = tensors.get(`${name}.bias`);
      const [outputs, inputs, rows, columns] = tensors.shape(`${name}.weight`);
      const weight = (o, row, column, input) =>
        weights[((o * inputs + input) * rows + row) * columns + column];
      const kernel = [rows, columns, inputs];
      return new Convolution(kernels, outputs, kernel, weight, (o) => bias[o]);
    };
    this.input = convolution("vocoder.input");
    this.layers = Array.from({ length: this.settings.layers }, (_, layer) => ({
      mix: convolution(`vocoder.layers.${layer}.mix`),
      add: convolution(`vocoder.layers.${layer}.add`),
    }));
    this.output = convolution("vocoder.output");
    const [, , rows, width] = tensors.shape("vocoder.input.weight");
    this.border = [(rows - 1) / 2, (width - 1) / 2];
  }

  /**
   * @param {Uint8Array[]} columns Grey levels of each, the lowest band first.
   * @returns {Float32Array} Magnitudes (columns * frames_per_column, bins).
   */
  magnitude(columns) {
    const { frames_per_column, largest_gain, subbands } = this.settings;
    const { bins } = this.filters;
    const decibels = columns.map((column) =>
      Float64Array.from(column, (grey) => (grey / 255 - 1) * this.description.top_db),
    );
    const magnitude = this.fit(decibels);
    this.kernels.temporarily(() => {
      const gains = this.gains(decibels);
      const { floats } = this.kernels;
      for (let frame = 0; frame < columns.length * frames_per_column; frame++) {
        const column = Math.floor(frame / frames_per_column);
        const start = gains.at(column, 0) + (frame % frames_per_column) * subbands;
        const at = (place) =>
          floats[start + Math.floor(place / subbands) * gains.channels + (place % subbands)];
        for (let bin = 0; bin < bins; bin++) {
          const place = this.places[bin];
          const gain =
            this.shares[2 * bin] * at(place) + this.shares[2 * bin + 1] * at(place + 1);
          const clamped = Math.max(-largest_gain, Math.min(gain, largest_gain));
          const index = frame * bins + bin;
          magnitude[index] = Math.sqrt(magnitude[index] * Math.exp(clamped));
        }
      }
    });
    return magnitude;
  }

  /** Logarithms of gains, with frames and sub-bands as channels. */
  gains(decibels) {
    const { kernels, border } = this;
    const { bands, slope } = this.settings;
    const { top_db } = this.description;
    const rows = decibels.length;
    const shown = new Features(kernels, rows, bands, 4, border);
    const features = new Features(kernels, rows, bands, this.input.channels, border);
    const mixed = new Features(kernels, rows, bands, this.input.channels);
    const output = new Features(kernels, rows, bands, this.output.channels);
    const { floats } = kernels;
    for (let row = 0; row < rows; row++)
      for (let band = 0; band < bands; band++) {
        const level = decibels[row][Math.min(band, decibels[row].length - 1)];
        const number = band / (bands - 1), angle = 2 * Math.PI * number;
        const channels = [1 + (2 * level) / top_db, number, Math.cos(angle), Math.sin(angle)];
        floats.set(channels, shown.at(row, band));
      }
    const run = (layer, from, to, options) => {
      const above = layer.kernel[0] > 1 ? border : [0, 0];
      layer.apply(
        from.at(-above[0], -above[1]), from.stride,
        to.at(0, 0), to.stride, to.channels, rows, bands, options,
      );
    };
    run(this.input, shown, features);
    for (const { mix, add } of this.layers) {
      run(mix, features, mixed, { slope });
      run(add, mixed, features, { accumulate: true });
    }
    for (let row = 0; row < rows; row++) {
      const start = features.at(row, 0), end = features.at(row, bands);
      for (let i = start; i < end; i++) if (floats[i] < 0) floats[i] *= slope;
    }
    run(this.output, features, output);
    return output;
  }

  /** Power of the fit (columns * frames_per_column, bins), also between the columns. */
  fit(decibels) {
    const { frames_per_column } = this.settings;
    const { power_steps, edge } = this.description.inversion, { bins } = this.filters;
    const fitted = new Float32Array(decibels.length * frames_per_column * bins);
    decibels.forEach((column, t) => {
      const next = decibels[Math.min(t + 1, decibels.length - 1)];
      for (let frame = 0; frame < frames_per_column; frame++) {
        const share = frame / frames_per_column;
        const mel = column.map((level, band) => {
          const between = level + share * (next[band] - level);
          return between > -this.description.top_db ? 10 ** (between / 10) : 0;
        });
        const power = this.filters.fit(mel, power_steps);
        // Above the highest band nothing is known: go on with the power of its rising side.
        let sum = 0;
        for (let bin = edge.first; bin <= edge.peak; bin++) sum += power[bin];
        power.fill(sum / (edge.peak + 1 - edge.first), edge.peak + 1);
        fitted.set(power, (t * frames_per_column + frame) * bins);
      }
    });
    return fitted;
  }
}
