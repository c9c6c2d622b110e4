/**
 * The engine of the instrument: a worker that draws music and turns it into sound.
 *
 * `payload.engine_source()` joins the files of this folder into one script; the page starts it as a
 * worker from a Blob's address. It loads nothing, so it also runs from a file on disk.
 *
 * Messages to the worker, and its answers. An answer has the `id` of its message; messages are
 * answered one after another.
 *
 *   {id, type: "load", description, weights: ArrayBuffer, kernels: ArrayBuffer}
 *     The parts of `payload.payload()`, the last two decoded from base64.
 *     -> {id, type: "ready"}
 *
 *   {id, type: "make", request: Request}
 *     -> {id, type: "progress", fraction}   now and then, from 0 to 1
 *     -> {id, type: "made", image: Uint8Array, rows, columns, samples: Float32Array, rate,
 *         loop: boolean, milliseconds}
 *     `image` has rows * columns grey levels, the top row (highest band) first. `samples` are mono,
 *     finished: at -23 LUFS, at most -1 dBFS, with short fades unless they loop. The buffers are
 *     transferred.
 *
 *   Any message may be answered by {id, type: "failed", message} instead.
 *
 * @typedef {Object<string, number>} Mixture Weights by genre; only their ratios matter. Ignored
 *   where `description.conditional` is false.
 *
 * @typedef {{seed: number|string, vary?: number}
 *   | {from: Latents, to: Latents, fraction: number}} Latents
 *   Random numbers of a seed, or of its variation `vary` (1, 2, …); or those between two others.
 *   `generate --vary 7 --amount 0.3` is {from: {seed: 7}, to: {seed: 7, vary: 2}, fraction: 0.3}.
 *   Seeds above 2^53 are strings of digits. `from` and `to` may be between others, as in a map:
 *   {from: {from: a, to: b, fraction: x}, to: {from: c, to: d, fraction: x}, fraction: y}.
 *
 * @typedef {Object} Request
 * @property {Mixture} start The genres, of a piece at its start.
 * @property {Mixture} [end] The genres at the end of a piece; as `start` if left out.
 * @property {Latents} style What belongs to the whole piece: timbre, tempo. If
 *   `description.any_length` is false, all latents, and `sequence` is ignored.
 * @property {Latents} [sequence] What happens in the course of it; as `style` if left out. With
 *   equal ones, the result is that of `generate`.
 * @property {?number} [seconds] Length of a piece; null for one image of
 *   `description.image_seconds`. A piece of the same latents is not the continuation of the image.
 * @property {number} [bars] With `bpm`: length in bars of four beats, in place of `seconds`.
 * @property {number} [bpm]
 * @property {boolean} [loop] Make a piece whose end leads to its start.
 * @property {number} [truncation] Scale of the latents; 1 if left out.
 * @property {boolean} [sound] false for the image alone, which is much faster; `samples` are empty.
 *
 * What the page may want to know from `description`: name, gan, genres, conditional, any_length,
 * rate, image_seconds, rows (mel bands), columns (of one image), top_db, band_hz (centre of each
 * band, lowest first), longest_seconds, vocoder (whether there is one).
 */

/** What a loaded checkpoint is; the other files are given it. */
function loaded({ description, weights, kernels: code }) {
  const kernels = new Kernels(code), tensors = new Tensors(description.tensors, weights);
  const filters = new MelFilters(tensors, description.rows);
  return {
    description,
    filters,
    generator: new Generator(kernels, tensors, description.generator),
    vocoder: description.vocoder ? new Vocoder(kernels, tensors, filters, description) : null,
    inversion: new Inversion(description),
  };
}

/** The weights (n_genres,) of a mixture, which sum to 1. */
function mixtureOf(weights, { conditional, genres }) {
  if (!conditional) return [1];
  const unknown = Object.keys(weights).find((genre) => !genres.includes(genre));
  if (unknown !== undefined) throw new Error(`${unknown} is not a genre of this instrument`);
  const mixture = genres.map((genre) => weights[genre] ?? 0);
  const total = mixture.reduce((sum, weight) => sum + weight, 0);
  if (!(total > 0) || mixture.some((weight) => !(weight >= 0)))
    throw new Error("give a weight above 0 to at least one genre");
  return mixture.map((weight) => weight / total);
}

/** Seconds of a request, null for one image, and beats where they are given. */
function lengthOf({ seconds = null, bars, bpm }, { pieces, longest_seconds }) {
  let beats = null;
  if (bars && bpm) {
    beats = bars * pieces.beats_per_bar;
    seconds = (60 * beats) / bpm;
  }
  if (seconds !== null && !(seconds > 0 && seconds <= longest_seconds))
    throw new Error(`${seconds} seconds are not possible; give up to ${longest_seconds}`);
  return { seconds, beats };
}

/**
 * @param {Object} instrument
 * @param {Request} request
 * @param {function(number): void} report Given the fraction that is done.
 */
function made(instrument, request, report) {
  const { description, generator } = instrument, { rate, rows, inversion } = description;
  const { style, sequence = style, loop = false, truncation = 1, sound = true } = request;
  const { seconds, beats } = lengthOf(request, description);
  const start = mixtureOf(request.start, description);
  const end = mixtureOf(request.end ?? request.start, description);
  let image, frames = rows, hop = inversion.hop_length;
  if (seconds === null) {
    if (loop) throw new Error("a loop needs a length");
    const { latent_dim, style_dim = latent_dim } = generator.settings;
    const latents = draw(latent_dim, description.any_length ? sequence : style);
    latents.set(draw(latent_dim, style).subarray(0, style_dim));
    image = generator.image(latents.map((x) => x * truncation), start);
  } else {
    frames = Math.ceil((seconds * rate) / hop);
    if (loop) ({ frames, hop } = loopSettings(seconds, description));
    const parts = { style, sequence, start, end, frames, loop, truncation, beats };
    image = piece(instrument, parts);
  }
  const columns = image.length / rows;
  if (!sound) return { image, rows, columns, samples: new Float32Array(0), rate, loop };
  let samples = inverted(instrument, image, hop, loop, report);
  const length = roundHalfEven((seconds ?? (columns * hop) / rate) * rate);
  samples = loop ? resampledLoop(samples, length) : samples.slice(0, length);
  finish(samples, rate, loop, description.finishing);
  return { image, rows, columns, samples, rate, loop };
}

const WARM_UP_SECONDS = 0.5;

/** Make a short sound, so that browsers compile the engine: the first one takes twice as long. */
function warmUp(instrument) {
  const start = { [instrument.description.genres[0]]: 1 };
  const request = { start, style: { seed: 0 }, seconds: WARM_UP_SECONDS, loop: true };
  made(instrument, request, () => {});
}

let instrument = null;

/** Answer one message. */
function answer(message) {
  const { id, type, request } = message;
  if (type === "load") {
    instrument = loaded(message);
    warmUp(instrument);
    postMessage({ id, type: "ready" });
  } else if (type === "make") {
    if (!instrument) throw new Error("nothing is loaded");
    const begun = performance.now();
    const report = (fraction) => postMessage({ id, type: "progress", fraction });
    const result = made(instrument, request, report);
    const milliseconds = performance.now() - begun;
    const buffers = [result.image.buffer, result.samples.buffer];
    postMessage({ id, type: "made", ...result, milliseconds }, buffers);
  } else {
    throw new Error(`there is no message ${type}`);
  }
}

self.onmessage = ({ data }) => {
  try {
    answer(data);
  } catch (error) {
    postMessage({ id: data.id, type: "failed", message: error.message });
  }
};
