// Places on the map, and the state of the instrument as an address.
//
// Each crossing of the map's grid is a seed, the same as of `generate --seeds`. Between crossings
// the latents of the four seeds around blend. The map has WORLD columns and rows, and its edges
// join. Coordinates have two decimals, so that an address names a place exactly.
const WORLD = 1000;
const SEEDS = WORLD * WORLD;

const rounded = number => Math.round(number * 100) / 100;
const wrapped = number => rounded(((rounded(number) % WORLD) + WORLD) % WORLD) % WORLD;
const placeAt = (x, y) => ({ x: wrapped(x), y: wrapped(y) });
const placeOfSeed = seed => placeAt(seed % WORLD, Math.floor(seed / WORLD));
const seedAt = (column, row) => WORLD * wrapped(row) + wrapped(column);
const isSamePlace = (a, b) => a.x === b.x && a.y === b.y;
// The shortest way from one coordinate to another, across the edge where that is shorter.
const difference = (from, to) => ((to - from + 1.5 * WORLD) % WORLD) - WORLD / 2;

const isSeed = ({ x, y }) => Number.isInteger(x) && Number.isInteger(y);
const nearestSeed = ({ x, y }) => seedAt(Math.round(x), Math.round(y));

// The seeds around a place: one at a crossing, two on a line, else four.
function seedsAround({ x, y }) {
  const columns = Number.isInteger(x) ? [x] : [Math.floor(x), Math.floor(x) + 1];
  const rows = Number.isInteger(y) ? [y] : [Math.floor(y), Math.floor(y) + 1];
  return rows.flatMap(row => columns.map(column => seedAt(column, row)));
}

// What the engine makes of a place: a seed, or a blend of two, each of which may be one.
function latentsAt({ x, y }) {
  const blend = (from, to, fraction) => (fraction ? { from, to, fraction } : from);
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const row = number =>
    blend({ seed: seedAt(left, number) }, { seed: seedAt(left + 1, number) }, rounded(x - left));
  return blend(row(top), row(top + 1), rounded(y - top));
}

// Allowed values of the settings.
const LIMITS = {
  weight: [0, 100], truncation: [0.1, 1.5], seconds: [0.5, 120], bars: [1, 32], bpm: [40, 240],
};
const isWithin = (number, [least, most]) => Number.isFinite(number) && number >= least && number <= most;

// The state as the part of the address after `#`; numbers and commas only, so nothing is escaped.
function addressOf(state) {
  const parts = [];
  if (state.start.length) parts.push(`genres=${state.start}`);
  if (state.end) parts.push(`end=${state.end}`);
  parts.push(`style=${state.style.x},${state.style.y}`);
  if (!isSamePlace(state.style, state.sequence)) {
    parts.push(`sequence=${state.sequence.x},${state.sequence.y}`);
  }
  parts.push(`truncation=${state.truncation}`, `length=${state.length}`);
  if (state.length === "seconds") parts.push(`seconds=${state.seconds}`);
  if (state.length === "bars") parts.push(`bars=${state.bars}`, `bpm=${state.bpm}`);
  if (state.length !== "image") parts.push(`loop=${Number(state.loop)}`);
  return parts.join("&");
}

// The state that an address names. What it leaves out is as in `defaults`.
function stateOf(address, defaults, isAnyLength) {
  const state = structuredClone(defaults);
  const given = new Map();
  for (const part of address.split("&")) {
    const [name, value, ...more] = part.split("=");
    if (value === undefined || more.length || given.has(name)) throw new Error(part);
    given.set(name, value);
  }
  const take = (name, read) => {
    if (!given.has(name)) return undefined;
    const value = read(given.get(name));
    if (value === undefined) throw new Error(`${name}=${given.get(name)}`);
    given.delete(name);
    return value;
  };
  const number = limits => text =>
    /^\d+(\.\d+)?$/.test(text) && isWithin(+text, limits) ? +text : undefined;
  const numbers = (count, limits) => text => {
    const found = text.split(",").map(number(limits));
    return found.length === count && !found.includes(undefined) ? found : undefined;
  };
  const place = text => {
    const found = numbers(2, [0, WORLD])(text);
    return found && placeAt(...found);
  };
  const weights = numbers(defaults.start.length, LIMITS.weight);
  state.start = take("genres", weights) ?? state.start;
  state.style = take("style", place) ?? state.style;
  state.sequence = take("sequence", place) ?? { ...state.style };
  state.length = take("length", text => (LENGTHS.includes(text) ? text : undefined)) ?? state.length;
  for (const name of ["truncation", "seconds", "bars", "bpm"]) {
    state[name] = take(name, number(LIMITS[name])) ?? state[name];
  }
  if (!Number.isInteger(state.bars)) throw new Error(`bars=${state.bars}`);
  state.loop = take("loop", text => new Map([["0", false], ["1", true]]).get(text)) ?? state.loop;
  state.end = take("end", weights) ?? null;
  if (given.size) throw new Error([...given.keys()].join(", "));
  if (state.end && state.length === "image") throw new Error("end");
  if (!isAnyLength && !isSamePlace(state.style, state.sequence)) throw new Error("sequence");
  return state;
}

// "image" is the length of the images that the model was trained on.
const LENGTHS = ["image", "seconds", "bars"];

// Seconds, as far as the page knows them; those of an image are few.
function lengthOf({ length, seconds, bars, bpm }) {
  return { image: 0, seconds, bars: (240 * bars) / bpm }[length];
}

// Shares of weights, which sum to 1; equal shares if all weights are 0.
function sharesOf(weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map(weight => (total ? weight / total : 1 / weights.length));
}

function requestOf(state, genres) {
  const mixture = weights => {
    const shares = sharesOf(weights).map((share, number) => [genres[number], share]);
    return Object.fromEntries(shares.filter(([, share]) => share));
  };
  const isPiece = state.length !== "image";
  return {
    start: mixture(state.start),
    end: mixture(state.end ?? state.start),
    style: latentsAt(state.style),
    sequence: latentsAt(state.sequence),
    seconds: state.length === "seconds" ? state.seconds : null,
    ...(state.length === "bars" && { bars: state.bars, bpm: state.bpm }),
    loop: isPiece && state.loop,
    truncation: state.truncation,
  };
}
