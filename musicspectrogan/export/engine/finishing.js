/**
 * Length, loudness and fades of a sound; see `finishing.py` and `sound.py`.
 */

/** Frames and hop of a loop of nearly that length; see `loop_settings`. */
function loopSettings(seconds, description) {
  const { any_length, rate, inversion } = description;
  const multiple = any_length ? description.generator.cell_frames : 1;
  const length = (seconds * rate) / inversion.hop_length;
  const count = multiple === 1 ? Math.ceil(length) : roundHalfEven(length / multiple);
  const frames = multiple * Math.max(1, count);
  const step = description.vocoder?.frames_per_column ?? 1;
  const hop = roundHalfEven((length * inversion.hop_length) / frames / step);
  return { frames, hop: step * Math.max(1, hop) };
}

// Zeros of the resampling filter on each side, and the shape of its Kaiser window.
const FILTER_ZEROS = 32, FILTER_SHAPE = 9, FILTER_STEPS = 512;

/**
 * Samples of a loop at another rate that makes them `length` samples.
 *
 * The rates are nearly the same, so the filter passes everything up to nearly half the lower one.
 */
function resampledLoop(samples, length) {
  const own = samples.length;
  if (own === length) return samples;
  // With as many samples of the other end on each side as the filter reaches.
  const around = Float64Array.from(
    { length: own + 2 * FILTER_ZEROS }, (_, i) => samples[modulo(i - FILTER_ZEROS, own)]);
  const resampled = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const place = (i * own) / length, nearest = Math.round(place), rest = place - nearest;
    const middle = nearest + FILTER_ZEROS;
    if (Math.abs(rest) < 1e-9) {
      resampled[i] = around[middle];
      continue;
    }
    // sin(pi * (rest - k)) is the same for all k but for its sign.
    const sum = (around[middle] * filterWindow(Math.abs(rest) * FILTER_STEPS)) / rest +
      halfFiltered(around, middle, -1, rest) - halfFiltered(around, middle, 1, -rest);
    resampled[i] = (sum * Math.sin(Math.PI * rest)) / Math.PI;
  }
  return resampled;
}

/**
 * The part of the filter on one side of its middle. It looks the window up at equal distances, so
 * that they share one fraction of a step: this loop takes most of the time.
 */
function halfFiltered(around, middle, direction, rest) {
  const first = Math.floor(rest * FILTER_STEPS), fraction = rest * FILTER_STEPS - first;
  let sum = 0;
  for (let k = 1, sign = -1; k < FILTER_ZEROS; k++, sign = -sign) {
    const left = first + k * FILTER_STEPS, window = FILTER_WINDOW[left];
    const weight = window + fraction * (FILTER_WINDOW[left + 1] - window);
    sum += (sign * around[middle + direction * k] * weight) / (rest + k);
  }
  return sum;
}

function filterWindow(at) {
  const left = Math.floor(at);
  return FILTER_WINDOW[left] + (at - left) * (FILTER_WINDOW[left + 1] - FILTER_WINDOW[left]);
}

/** The right half of the filter's Kaiser window, in FILTER_STEPS for each zero. */
const FILTER_WINDOW = (() => {
  const bessel = (x) => {
    let term = 1, sum = 1;
    for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
    return sum;
  };
  const greatest = bessel(FILTER_SHAPE);
  return Float64Array.from({ length: FILTER_ZEROS * FILTER_STEPS + 2 }, (_, i) => {
    const inside = 1 - (i / (FILTER_ZEROS * FILTER_STEPS)) ** 2;
    return inside < 0 ? 0 : bessel(FILTER_SHAPE * Math.sqrt(inside)) / greatest;
  });
})();

/** Scale samples in place to the target loudness without clipping, and fade both ends. */
function finish(samples, rate, loop, settings) {
  const peak = samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  if (peak > 0) {
    // First to the ceiling, because BS.1770 does not measure very quiet sounds.
    scale(samples, 10 ** (settings.peak_dbfs / 20) / peak);
    const difference = settings.loudness_lufs - loudness(samples, rate, settings);
    scale(samples, Math.min(1, 10 ** (difference / 20)));
  }
  const length = Math.min(roundHalfEven(settings.fade_seconds * rate), samples.length >> 1);
  if (loop) return;
  for (let i = 0; i < length; i++) {
    const gain = length > 1 ? i / (length - 1) : 0;
    samples[i] *= gain;
    samples[samples.length - 1 - i] *= gain;
  }
}

function scale(samples, factor) {
  for (let i = 0; i < samples.length; i++) samples[i] *= factor;
}

/** Integrated loudness in LUFS by ITU-R BS.1770. Sounds shorter than a block are repeated. */
function loudness(samples, rate, settings) {
  const { min_seconds, block_seconds, block_step, filters } = settings;
  const length = Math.max(samples.length, roundHalfEven(min_seconds * rate));
  let weighted = Float64Array.from({ length }, (_, i) => samples[i % samples.length]);
  for (const [b, a] of filters) weighted = filtered(weighted, b, a);
  const energy = new Float64Array(length + 1);
  for (let i = 0; i < length; i++) energy[i + 1] = energy[i] + weighted[i] ** 2;
  const count = roundHalfEven((length / rate - block_seconds) / block_step) + 1;
  const blocks = Array.from({ length: count }, (_, block) => {
    const first = Math.floor(block * block_step * rate);
    const last = Math.floor((block * block_step + block_seconds) * rate);
    const sum = energy[Math.min(last, length)] - energy[Math.min(first, length)];
    return sum / (block_seconds * rate);
  });
  const mean = (powers) => powers.reduce((sum, power) => sum + power, 0) / powers.length;
  const inLufs = (power) => 10 * Math.log10(power) - 0.691;
  const heard = blocks.filter((power) => inLufs(power) >= settings.absolute_gate_lufs);
  if (!heard.length) return -Infinity;
  const gate = mean(heard) / 10 ** (settings.relative_gate_lu / 10);
  return inLufs(mean(heard.filter((power) => power > gate)));
}

/** A second-order recursive filter, whose `a` begins with 1. */
function filtered(samples, b, a) {
  const output = new Float64Array(samples.length);
  let first = 0, second = 0;
  for (let i = 0; i < samples.length; i++) {
    const y = b[0] * samples[i] + first;
    first = b[1] * samples[i] - a[1] * y + second;
    second = b[2] * samples[i] - a[2] * y;
    output[i] = y;
  }
  return output;
}
