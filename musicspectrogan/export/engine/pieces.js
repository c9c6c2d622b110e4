/**
 * Continuous pieces of any length; see `pieces.py`.
 */

/**
 * Grey levels of a piece.
 *
 * @param {Object} instrument From worker.js.
 * @param {{style: Latents, sequence: Latents, start: number[], end: number[], frames: number,
 *   loop: boolean, truncation: number, beats: ?number}} request
 * @returns {Uint8Array} (rows * frames,)
 */
function piece(instrument, request) {
  const { generator, description } = instrument;
  if (!description.any_length) return blended(instrument, request);
  const { settings } = generator;
  const { style_dim, cell_dim, cell_frames, window_cells, latent_dim, context, bar } = settings;
  const { style, sequence, start, end, frames, loop, truncation, beats } = request;
  const latent = draw(latent_dim, sequence);
  const windowEnd = style_dim + cell_dim * window_cells;
  const offset = generator.beginsAt(latent[windowEnd + 1]);
  const phase = generator.phase(latent[windowEnd]);
  const count = Math.ceil((loop ? frames : frames + offset) / cell_frames);
  let timbre = draw(latent_dim, style).subarray(0, style_dim).map((x) => x * truncation);
  let tempo = generator.beatsInCell(timbre);
  if (beats) tempo = (beats / frames) * cell_frames;
  else if (loop) tempo = (bar * Math.max(1, roundHalfEven((tempo * count) / bar))) / count;
  timbre = generator.atTempo(timbre, tempo);
  const position = positions(count, loop);
  const parts = [];
  for (let first = 0; first < count; first += description.pieces.block) {
    const last = Math.min(first + description.pieces.block, count);
    const cells = [], genres = [], edges = [];
    for (let edge = first - context; edge <= last + context; edge++) {
      edges.push(phase + tempo * edge);
      if (edge === last + context) break;
      const cell = loop ? modulo(edge, count) : edge;
      cells.push(draw(cell_dim, sequence, "cell", cell).map((x) => x * truncation));
      genres.push(between(start, end, position[Math.max(0, Math.min(cell, count - 1))]));
    }
    parts.push(generator.frames(timbre, cells, genres, edges));
  }
  const whole = joined(parts, description.rows);
  const columns = whole.length / description.rows;
  if (!loop) return cutColumns(whole, description.rows, columns, offset, frames);
  const left = cutColumns(whole, description.rows, columns, 0, offset);
  const right = cutColumns(whole, description.rows, columns, offset, columns - offset);
  return joined([right, left], description.rows);
}

/** Position of each of `count` steps, from 0 at the start of a morph to 1; a loop returns to 0. */
function positions(count, loop) {
  return Array.from({ length: count }, (_, i) =>
    loop ? 1 - Math.abs((2 * i) / count - 1) : count > 1 ? i / (count - 1) : 0,
  );
}

function between(start, end, position) {
  return start.map((weight, i) => weight + position * (end[i] - weight));
}

/** Images side by side. */
function joined(images, rows) {
  const widths = images.map((image) => image.length / rows);
  const columns = widths.reduce((sum, width) => sum + width, 0);
  const whole = new Uint8Array(rows * columns);
  for (let row = 0, place = 0; row < rows; row++)
    images.forEach((image, i) => {
      whole.set(image.subarray(row * widths[i], (row + 1) * widths[i]), place);
      place += widths[i];
    });
  return whole;
}

/** `piece` for a generator of single images, which overlap on a path through latent space. */
function blended({ generator, description }, request) {
  const { style, start, end, frames, loop, truncation } = request;
  const { rows, top_db } = description, { overlap, images_per_latent } = description.pieces;
  const size = rows, hop = size / overlap;
  const count = Math.ceil(frames / hop) + (loop ? 0 : overlap - 1);
  const segments = Math.max(2, Math.ceil(count / images_per_latent));
  const stops = Array.from({ length: segments + 1 }, (_, stop) =>
    draw(generator.settings.latent_dim, style, "walk", loop ? stop % segments : stop),
  );
  const position = positions(count, loop);
  const decades = top_db / 10 / 255;
  const total = loop ? frames : (count + overlap - 1) * hop;
  const power = new Float64Array(rows * total), norm = new Float64Array(total);
  for (let index = 0; index < count; index++) {
    const along = index * (segments / count), left = Math.floor(along);
    const angle = (along - left) * (Math.PI / 2);
    const latents = stops[left].map(
      (x, i) => truncation * (Math.cos(angle) * x + Math.sin(angle) * stops[left + 1][i]),
    );
    const image = generator.image(latents, between(start, end, position[index]));
    for (let column = 0; column < size; column++) {
      const weight = Math.sin((Math.PI * (column + 0.5)) / size) ** 2;
      const place = modulo(index * hop + column, total);
      norm[place] += weight;
      for (let row = 0; row < rows; row++)
        power[row * total + place] += weight * 10 ** (image[row * size + column] * decades);
    }
  }
  const first = loop ? 0 : size - hop;
  const grey = new Uint8Array(rows * frames);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < frames; column++) {
      const mean = power[row * total + first + column] / norm[first + column];
      const level = Math.round(Math.log10(mean) / decades);
      grey[row * frames + column] = Math.max(0, Math.min(level, 255));
    }
  return grey;
}

function modulo(number, by) {
  return ((number % by) + by) % by;
}

/** As Python rounds. */
function roundHalfEven(x) {
  const floor = Math.floor(x), rest = x - floor;
  return rest === 0.5 ? floor + (floor % 2) : Math.floor(x + 0.5);
}
