/**
 * From Fourier magnitudes to samples: phases by Griffin-Lim; see `inversion.py`.
 */

/** Two real transforms at a time, as the real and the imaginary part of a complex one. */
class Transforms {
  /** @param {number} size A power of two. */
  constructor(size) {
    this.size = size;
    this.fft = new FFT(size);
    this.time = new Float64Array(2 * size);
    this.spectrum = new Float64Array(2 * size);
  }

  /** Put two spectra, interleaved, together into `spectrum`. */
  join(spectra, first, second) {
    const { size, spectrum } = this, half = size / 2;
    for (let k = 0; k <= half; k++) {
      const a = spectra[first + 2 * k], b = spectra[second + 2 * k];
      // Those of frequency 0 and of the highest are real.
      const inner = k > 0 && k < half;
      const c = inner ? spectra[first + 2 * k + 1] : 0, d = inner ? spectra[second + 2 * k + 1] : 0;
      spectrum[2 * k] = a - d;
      spectrum[2 * k + 1] = c + b;
      if (inner) {
        spectrum[2 * (size - k)] = a + d;
        spectrum[2 * (size - k) + 1] = b - c;
      }
    }
  }

  /** The inverse of `join`. */
  split(spectra, first, second) {
    const { size, spectrum } = this, half = size / 2;
    for (let k = 0; k <= half; k++) {
      const mirror = 2 * ((size - k) % size);
      const re = spectrum[2 * k], im = spectrum[2 * k + 1];
      const mirrorRe = spectrum[mirror], mirrorIm = spectrum[mirror + 1];
      spectra[first + 2 * k] = 0.5 * (re + mirrorRe);
      spectra[first + 2 * k + 1] = 0.5 * (im - mirrorIm);
      spectra[second + 2 * k] = 0.5 * (im + mirrorIm);
      spectra[second + 2 * k + 1] = 0.5 * (mirrorRe - re);
    }
  }

  toTime() {
    this.fft.inverseTransform(this.time, this.spectrum);
  }

  toSpectrum() {
    this.fft.transform(this.spectrum, this.time);
  }
}

class Inversion {
  /** @param {Object} description */
  constructor(description) {
    this.settings = description.inversion;
    this.size = this.settings.n_fft;
    this.bins = this.size / 2 + 1;
    this.transforms = new Transforms(this.size);
    this.window = Float64Array.from(
      { length: this.size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / this.size));
    this.twister = new Twister(this.settings.phase_seed);
    this.cycles = [];
  }

  /** Uniform random phases of a frame in cycles, which repeat after many frames. */
  initialCycles(position) {
    const row = position % this.settings.phase_frames;
    while (this.cycles.length <= row)
      this.cycles.push(Float32Array.from({ length: this.bins }, () => this.twister.uniform()));
    return this.cycles[row];
  }

  /**
   * Samples (frames * hop,) whose Fourier magnitude is close to `magnitude` (frames, bins).
   *
   * @param {Float32Array} magnitude
   * @param {number} hop
   * @param {number[]} positions Of the frames in the piece, which select their initial phases.
   */
  griffinLim(magnitude, hop, positions) {
    const { bins, size } = this;
    const { momentum, phase_iterations } = this.settings;
    const frames = magnitude.length / bins, length = size + frames * hop;
    // One more frame, because so many give `frames` hops; and one to make their number even.
    const count = 2 * Math.ceil((frames + 1) / 2);
    const spectra = new Float32Array(2 * bins * count);
    const target = new Float32Array(bins * count);
    target.set(magnitude);
    target.copyWithin(frames * bins, (frames - 1) * bins, frames * bins);
    const last = positions[frames - 1];
    for (let frame = 0; frame <= frames; frame++) {
      const cycles = this.initialCycles(frame < frames ? positions[frame] : last + 1);
      for (let bin = 0; bin < bins; bin++) {
        const index = frame * bins + bin, angle = 2 * Math.PI * cycles[bin];
        spectra[2 * index] = target[index] * Math.cos(angle);
        spectra[2 * index + 1] = target[index] * Math.sin(angle);
      }
    }
    const scale = this.overlapScale(frames, hop, length);
    const previous = new Float32Array(spectra.length), rebuilt = new Float32Array(spectra.length);
    const step = momentum / (1 + momentum);
    for (let iteration = 0; iteration < phase_iterations; iteration++) {
      this.spectraOf(this.signalOf(spectra, frames, hop, scale), frames, hop, rebuilt);
      for (let index = 0; index < (frames + 1) * bins; index++) {
        const re = rebuilt[2 * index] - step * previous[2 * index];
        const im = rebuilt[2 * index + 1] - step * previous[2 * index + 1];
        const factor = target[index] / Math.max(Math.sqrt(re * re + im * im), EPSILON);
        spectra[2 * index] = re * factor;
        spectra[2 * index + 1] = im * factor;
      }
      previous.set(rebuilt);
    }
    const signal = this.signalOf(spectra, frames, hop, scale);
    return Float32Array.from(signal.subarray(size / 2, size / 2 + frames * hop));
  }

  /** What a sum of overlapping windows is multiplied with; 0 beyond both ends. */
  overlapScale(frames, hop, length) {
    const { size, window } = this;
    const scale = new Float64Array(length);
    for (let frame = 0; frame <= frames; frame++)
      for (let i = 0; i < size; i++) scale[frame * hop + i] += window[i] ** 2;
    for (let i = 0; i < length; i++) {
      const inside = i >= size / 2 && i < size / 2 + frames * hop;
      scale[i] = inside ? 1 / scale[i] : 0;
    }
    return scale;
  }

  /** The signal of spectra, with half a window of zeros at both ends. */
  signalOf(spectra, frames, hop, scale) {
    const { bins, size, window, transforms } = this;
    const signal = new Float64Array(scale.length);
    for (let frame = 0; frame <= frames; frame += 2) {
      const first = 2 * bins * frame;
      transforms.join(spectra, first, first + 2 * bins);
      transforms.toTime();
      const { time } = transforms, start = frame * hop;
      for (let i = 0; i < size; i++) signal[start + i] += window[i] * time[2 * i];
      if (frame < frames)
        for (let i = 0; i < size; i++) signal[start + hop + i] += window[i] * time[2 * i + 1];
    }
    for (let i = 0; i < signal.length; i++) signal[i] *= scale[i];
    return signal;
  }

  /** Write the spectra of a signal of `signalOf`. */
  spectraOf(signal, frames, hop, spectra) {
    const { bins, size, window, transforms } = this;
    for (let frame = 0; frame <= frames; frame += 2) {
      const { time } = transforms, start = frame * hop;
      const two = frame < frames;
      for (let i = 0; i < size; i++) {
        time[2 * i] = window[i] * signal[start + i];
        time[2 * i + 1] = two ? window[i] * signal[start + hop + i] : 0;
      }
      transforms.toSpectrum();
      const first = 2 * bins * frame;
      transforms.split(spectra, first, first + 2 * bins);
    }
  }
}

/**
 * Samples of an image, block by block so that memory is bounded; see `inverted_blocks`.
 *
 * @param {Object} instrument
 * @param {Uint8Array} image
 * @param {number} hop Of the image's columns; the checkpoint's, but for loops.
 * @param {boolean} loop
 * @param {function(number): void} report Given the fraction that is done.
 * @returns {Float32Array} (columns * hop,)
 */
function inverted(instrument, image, hop, loop, report) {
  const { description, inversion, vocoder } = instrument;
  const { rows } = description, columns = image.length / rows;
  const { phase_iterations, n_fft, block_bins } = description.inversion;
  const perColumn = description.vocoder?.frames_per_column ?? 1, fineHop = hop / perColumn;
  // Each transform and its inverse mix as many neighbours as the windows overlap.
  const overlapping = Math.ceil(n_fft / fineHop);
  const context = Math.ceil(((phase_iterations + 1) * overlapping) / perColumn) +
    (description.vocoder?.context ?? 0);
  const block = Math.max(context, Math.floor(block_bins / (perColumn * inversion.bins)));
  const samples = new Float32Array(columns * hop);
  for (let start = 0; start < columns; start += block) {
    const stop = Math.min(start + block, columns);
    const first = loop ? start - context : Math.max(0, start - context);
    const last = loop ? stop + context : Math.min(columns, stop + context);
    const shown = [], positions = [];
    for (let place = first; place < last; place++) {
      const column = modulo(place, columns);
      shown.push(Uint8Array.from(
        { length: rows }, (_, band) => image[(rows - 1 - band) * columns + column]));
      for (let frame = 0; frame < perColumn; frame++) positions.push(column * perColumn + frame);
    }
    const magnitude = vocoder ? vocoder.magnitude(shown) : fittedMagnitude(instrument, shown);
    const wave = inversion.griffinLim(magnitude, fineHop, positions);
    samples.set(wave.subarray((start - first) * hop, (stop - first) * hop), start * hop);
    report(stop / columns);
  }
  return samples;
}
