/**
 * The generators of `musicspectrogan.models`: latents to grey levels.
 *
 * All are the same but for two things: the innermost layer, and what the scale and shift of
 * BatchNorm depend on. BatchNorm's statistics are part of the weights.
 */

/**
 * Source rows (or columns) of each of the two outputs between them, as weights of the kernel.
 *
 * Nearest neighbours repeat a row, so two weights see the same one.
 */
const TRANSPOSED = [[[3], [1]], [[2], [0]]];
const RESIZED = [[[0], [1, 2]], [[0, 1], [2]]];
const TAPS = {
  transposed: { rows: TRANSPOSED, columns: TRANSPOSED },
  resize: { rows: RESIZED, columns: RESIZED },
  // The weights are those of a transposed convolution: the last comes first.
  resize_time: { rows: TRANSPOSED, columns: [[[2], [0, 1]], [[1, 2], [0]]] },
};

class Generator {
  /**
   * @param {Kernels} kernels
   * @param {Tensors} tensors
   * @param {Object} settings `description.generator`
   */
  constructor(kernels, tensors, settings) {
    Object.assign(this, { kernels, tensors, settings });
    this.innermost = this.innermostLayer();
    this.layers = settings.channels.map((_, level) => this.upsampling(level));
    this.norms = settings.channels.map((_, level) => this.norm(level));
    this.smooth = settings.any_length ? tensors.get("smooth") : null;
  }

  /** One convolution for each row of the innermost features. */
  innermostLayer() {
    const { any_length, innermost, channels } = this.settings;
    const weights = this.tensors.get("begin.weight");
    const bias = this.tensors.get("begin.bias");
    const outputs = channels[0], padded = roundUp(outputs);
    return Array.from({ length: innermost }, (_, row) => {
      if (any_length) {
        // (outputs * rows, inputs, columns)
        const [, inputs, width] = this.tensors.shape("begin.weight");
        const weight = (o, _, column, input) =>
          weights[((o * innermost + row) * inputs + input) * width + column];
        return new Convolution(this.kernels, outputs, [1, width, inputs], weight, (o) => bias[o]);
      }
      // (outputs, inputs, rows, columns): all columns of a row at once, each with all channels.
      const [, inputs] = this.tensors.shape("begin.weight");
      const weight = (o, _row, _column, input) => {
        const output = o % padded, column = Math.floor(o / padded);
        return output < outputs
          ? weights[((output * inputs + input) * innermost + row) * innermost + column] : 0;
      };
      const shift = (o) => bias[o % padded] ?? 0;
      return new Convolution(this.kernels, innermost * padded, [1, 1, inputs], weight, shift);
    });
  }

  /** The layer that doubles a level's features: convolutions for even and odd rows and columns. */
  upsampling(level) {
    const { upsampling, channels } = this.settings;
    const weights = this.tensors.get(`layers.${level}.weight`);
    const bias = this.tensors.get(`layers.${level}.bias`);
    const [outputs, inputs, height, width] = this.tensors.shape(`layers.${level}.weight`);
    const taps = TAPS[upsampling];
    return [0, 1].map((oddRow) =>
      [0, 1].map((oddColumn) => {
        const weight = (o, row, column, input) => {
          if (input >= inputs) return 0;
          let sum = 0;
          for (const y of taps.rows[oddRow][row])
            for (const x of taps.columns[oddColumn][column])
              sum += weights[((o * inputs + input) * height + y) * width + x];
          return sum;
        };
        const kernel = [2, 2, roundUp(channels[level])];
        return new Convolution(this.kernels, outputs, kernel, weight, (o) => bias[o]);
      }),
    );
  }

  /** Weights (2 * channels, …) of a level's scales and shifts; null where they are constant. */
  norm(level) {
    if (!(`norms.${level}.genre` in this.tensors.table)) return null;
    const get = (part) => this.tensors.get(`norms.${level}.${part}`);
    const genre = get("genre");
    return this.settings.any_length
      ? { genre, style: get("style"), clock: get("clock") }
      : { genre };
  }

  /**
   * Grey levels of one image.
   *
   * @param {Float32Array} latents (latent_dim,)
   * @param {number[]} genres (n_genres,), which sum to 1
   * @returns {Uint8Array} (rows * rows,)
   */
  image(latents, genres) {
    const { any_length, labels, rows } = this.settings;
    if (!any_length) {
      const input = labels ? Float32Array.from([...latents, ...genres]) : latents;
      return this.drawn(input, 1, this.constantNorms(genres), true);
    }
    const { style_dim, cell_dim, window_cells } = this.settings;
    const style = latents.subarray(0, style_dim);
    const sequence = Array.from({ length: window_cells }, (_, cell) =>
      Float32Array.from(
        { length: cell_dim }, (_, i) => latents[style_dim + i * window_cells + cell]),
    );
    const end = style_dim + cell_dim * window_cells;
    const start = this.phase(latents[end]), tempo = this.beatsInCell(style);
    const beats = Array.from({ length: window_cells + 1 }, (_, edge) => start + tempo * edge);
    const frames = this.frames(style, sequence, sequence.map(() => genres), beats);
    const width = frames.length / rows;
    return cutColumns(frames, rows, width, this.beginsAt(latents[end + 1]), rows);
  }

  /** The clock's beats at the start, of the latent for it. */
  phase(latent) {
    return this.settings.bar * normalDistribution(latent);
  }

  /** The frame of its first cell at which the image begins, of the latent for it. */
  beginsAt(latent) {
    const { cell_frames } = this.settings;
    return Math.min(cell_frames - 1, Math.floor(normalDistribution(latent) * cell_frames));
  }

  beatsInCell(style) {
    const { beats_per_cell, octaves } = this.settings;
    return beats_per_cell * 2 ** (octaves * style[0]);
  }

  /** The style at another tempo, or at the nearest that occurs in training. */
  atTempo(style, beatsInCell) {
    const { beats_per_cell, octaves, largest_tempo } = this.settings;
    const tempo = Math.log2(beatsInCell / beats_per_cell) / octaves;
    const changed = Float32Array.from(style);
    changed[0] = Math.max(-largest_tempo, Math.min(tempo, largest_tempo));
    return changed;
  }

  /**
   * Grey levels of a part of a piece, for generators of any length.
   *
   * @param {Float32Array} style
   * @param {Float32Array[]} sequence A vector for each of N cells.
   * @param {number[][]} genres A mixture for each cell.
   * @param {number[]} beats (N + 1,), time at the edges of cells.
   * @returns {Uint8Array} (rows * cell_frames * (N - 2 * context),)
   */
  frames(style, sequence, genres, beats) {
    const { fast_dim, cell_dim } = this.settings;
    const half = (this.smooth.length - 1) / 2, cells = sequence.length - 2 * half;
    // The innermost layer drops a cell at both ends.
    const slow = Array.from({ length: cells - 2 }, (_, cell) =>
      Float32Array.from({ length: cell_dim - fast_dim }, (_, i) =>
        this.smooth.reduce(
          (sum, weight, k) => sum + weight * sequence[cell + 1 + k][fast_dim + i], 0),
      ),
    );
    const inner = genres.slice(half + 1, -half - 1), edges = beats.slice(half + 1, -half - 1);
    const norms = this.norms.map((norm, level) =>
      norm && this.normsOverTime(norm, level, style, slow, inner, edges),
    );
    const fast = new Float32Array(cells * fast_dim);
    for (let cell = 0; cell < cells; cell++)
      fast.set(sequence[half + cell].subarray(0, fast_dim), cell * fast_dim);
    return this.drawn(fast, cells - 2, norms, false);
  }

  /** Scales and shifts of each level that are the same in all columns. */
  constantNorms(genres) {
    return this.norms.map((norm, level) => {
      if (!norm) return null;
      const both = product(norm.genre, genres);
      const channels = this.settings.channels[level];
      return { scale: both.subarray(0, channels), shift: both.subarray(channels), columns: 1 };
    });
  }

  /** Scales and shifts of a level in each column. */
  normsOverTime(norm, level, style, slow, genres, beats) {
    const channels = this.settings.channels[level], width = 2 ** level;
    const columns = slow.length * width, styleSize = style.length + slow[0].length;
    const scale = new Float32Array(columns * channels);
    const shift = new Float32Array(columns * channels);
    const ofStyle = product(norm.style, [...style], styleSize);
    slow.forEach((vector, cell) => {
      const ofGenre = product(norm.genre, genres[cell]);
      const ofSlow = product(norm.style, vector, styleSize, style.length);
      const perFrame = (beats[cell + 1] - beats[cell]) / width;
      for (let frame = 0; frame < width; frame++) {
        const clock = this.clock(beats[cell] + perFrame * (frame + 0.5), perFrame);
        const ofClock = product(norm.clock, clock);
        const place = (cell * width + frame) * channels;
        for (let c = 0, d = channels; c < channels; c++, d++) {
          scale[place + c] = ofGenre[c] + ofStyle[c] + ofSlow[c] + ofClock[c];
          shift[place + c] = ofGenre[d] + ofStyle[d] + ofSlow[d] + ofClock[d];
        }
      }
    });
    return { scale, shift, columns };
  }

  /** Cosines and sines of the time in beats, averaged over a frame. */
  clock(time, perFrame) {
    const { oscillations } = this.settings;
    const waves = [Math.cos, Math.sin].map((wave) =>
      oscillations.map((rate) => {
        const x = Math.PI * rate * perFrame;
        return (x ? Math.sin(x) / x : 1) * wave(2 * Math.PI * rate * time);
      }),
    );
    return waves.flat();
  }

  /**
   * Run the layers.
   *
   * @param {Float32Array} input Of the innermost layer.
   * @param {number} columns Of its output, or 1 for all of an image.
   * @param {Array<?{scale: Float32Array, shift: Float32Array, columns: number}>} norms
   * @param {boolean} padded In time; else columns that depend on a border are dropped.
   * @returns {Uint8Array} Grey levels.
   */
  drawn(input, columns, norms, padded) {
    const { kernels } = this;
    const { channels, innermost } = this.settings;
    const border = [1, padded ? 1 : 0];
    return kernels.temporarily(() => {
      const given = kernels.allocate(input.length);
      kernels.floats.set(input, given);
      const width = padded ? innermost : columns;
      let features = new Features(kernels, innermost, width, channels[0], border);
      this.innermost.forEach((layer, row) => {
        layer.apply(given, 0, features.at(row, 0), 0, layer.channels, 1, columns);
      });
      this.layers.forEach((layer, level) => {
        this.activate(features, norms[level], channels[level]);
        const last = level === channels.length - 1;
        features = this.doubled(features, layer, last ? [0, 0] : border, padded);
      });
      return this.grey(features, padded ? 0 : 1);
    });
  }

  /** Twice the rows and columns; without padding, two columns fewer. */
  doubled(features, layer, border, padded) {
    const { rows, columns } = features;
    const width = padded ? 2 * columns : 2 * columns - 2;
    const output = new Features(this.kernels, 2 * rows, width, layer[0][0].channels, border);
    for (const oddRow of [0, 1])
      for (const oddColumn of [0, 1]) {
        // An even one is between the one before and its own, an odd one between that and the next.
        const left = padded ? oddColumn - 1 : 0;
        const place = padded ? oddColumn : 1 - oddColumn;
        const convolution = layer[oddRow][oddColumn];
        convolution.apply(
          features.at(oddRow - 1, left), features.stride,
          output.at(oddRow, place), 2 * output.stride, 2 * output.channels,
          rows, padded ? columns : columns - 1,
        );
      }
    return output;
  }

  /** Scale, shift and ReLU, in place. */
  activate(features, norm, channels) {
    const { floats } = this.kernels;
    // Norms cover the columns that were dropped too, as many on both sides.
    const cut = norm && norm.columns > 1 ? (norm.columns - features.columns) / 2 : 0;
    const step = norm && norm.columns > 1 ? channels : 0;
    for (let row = 0; row < features.rows; row++)
      for (let column = 0; column < features.columns; column++) {
        const start = features.at(row, column), place = (cut + column) * step;
        for (let c = 0; c < channels; c++) {
          let x = floats[start + c];
          if (norm) x = x * norm.scale[place + c] + norm.shift[place + c];
          floats[start + c] = x > 0 ? x : 0;
        }
      }
  }

  /** Grey levels of the last features, without `cut` columns on both sides. */
  grey(features, cut) {
    const { floats } = this.kernels;
    const columns = features.columns - 2 * cut;
    const grey = new Uint8Array(features.rows * columns);
    for (let row = 0; row < features.rows; row++)
      for (let column = 0; column < columns; column++) {
        const x = Math.tanh(floats[features.at(row, column + cut)]);
        grey[row * columns + column] = Math.round((x + 1) * 127.5);
      }
    return grey;
  }
}

/** A matrix (rows, stride) by a vector, from a column of the matrix on. */
function product(matrix, vector, stride = vector.length, from = 0) {
  const rows = matrix.length / stride;
  const sums = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < vector.length; i++) sum += matrix[row * stride + from + i] * vector[i];
    sums[row] = sum;
  }
  return sums;
}

/** Some columns of an image. */
function cutColumns(image, rows, columns, first, count) {
  const cut = new Uint8Array(rows * count);
  for (let row = 0; row < rows; row++) {
    const start = row * columns + first;
    cut.set(image.subarray(start, start + count), row * count);
  }
  return cut;
}
