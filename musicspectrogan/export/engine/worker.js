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
