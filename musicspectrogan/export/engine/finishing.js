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
  const table = kaiserWindow();
  const resampled = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const place = (i * own) / length, nearest = Math.round(place), rest = place - nearest;
    if (Math.abs(rest) < 1e-9) {
      resampled[i] = samples[nearest % own];
      continue;
    }
    // sin(pi * (rest - k)) is the same for all k but for its sign.
    let sum = 0;
    for (let k = 1 - FILTER_ZEROS; k < FILTER_ZEROS; k++) {
      const distance = rest - k, at = Math.abs(distance) * FILTER_STEPS, left = Math.floor(at);
      const weight = table[left] + (at - left) * (table[left + 1] - table[left]);
      const term = (samples[modulo(nearest + k, own)] * weight) / distance;
      sum += k & 1 ? -term : term;
    }
    resampled[i] = (sum * Math.sin(Math.PI * rest)) / Math.PI;
  }
  return resampled;
}

/** The right half of the filter's window, in FILTER_STEPS for each zero. */
function kaiserWindow() {
  const bessel = (x) => {
    let term = 1, sum = 1;
    for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
    return sum;
  };
  return Float64Array.from({ length: FILTER_ZEROS * FILTER_STEPS + 2 }, (_, i) => {
    const inside = 1 - (i / (FILTER_ZEROS * FILTER_STEPS)) ** 2;
    return inside < 0 ? 0 : bessel(FILTER_SHAPE * Math.sqrt(inside)) / bessel(FILTER_SHAPE);
  });
}

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
