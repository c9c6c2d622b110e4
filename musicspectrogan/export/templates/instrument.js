// The instrument: controls, the address, the takes, and the engine in its worker.
//
// `state` is all that determines a sound, and is what the address holds. Controls change it and
// ask for a sound; only the newest question counts.

const about = JSON.parse(element("about").textContent);
const colours = colourTable(about.colours);

// Milliseconds without a change before a sound is asked for.
const PAUSE = 90;
// Sounds that Back returns to, and places of the trail on the map.
const MOST_BACK = 200;
const TRAIL = 24;
// Radians by which a walk turns at most.
const TURN = 0.6;

const DEFAULTS = {
  start: about.genres.map((_, number) => (number ? 0 : 100)),
  end: null,
  style: placeOfSeed(0),
  sequence: placeOfSeed(0),
  truncation: 1,
  length: about.any_length ? "seconds" : "image",
  seconds: 3,
  bars: 2,
  bpm: 120,
  loop: about.any_length,
};

let state = DEFAULTS;
let shown = null;
let editing = "start"; // which mixture the sliders show
let walk = null; // its direction in radians
const held = { style: false, sequence: false };
const past = []; // addresses
const trail = [];
const takes = new Map(); // by address
let kept = 0; // number of the last take

function element(id) {
  return document.getElementById(id);
}

// The engine answers one question at a time. Of those that wait, the newest is asked.
class Engine {
  #worker;
  #next = 0;
  #answers = new Map();
  #running = false;
  #waiting = null;

  constructor(source) {
    this.#worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    this.#worker.addEventListener("message", ({ data }) => {
      if (data.type === "progress") showProgress(data.fraction);
      else if (data.type === "failed") this.#settle(data.id).reject(new Error(data.message));
      else this.#settle(data.id).resolve(data);
    });
    const fail = event => {
      event.preventDefault();
      const error = new Error(event.message || "the browser does not start the worker of this page");
      for (const id of [...this.#answers.keys()]) this.#settle(id).reject(error);
    };
    this.#worker.addEventListener("error", fail);
    this.#worker.addEventListener("messageerror", fail);
  }

  load(parts) {
    return this.#ask({ type: "load", ...parts }, [parts.weights, parts.kernels]);
  }

  // What was made, or null where a newer question has come.
  async make(request) {
    this.#waiting?.(false);
    if (this.#running && !(await new Promise(turn => { this.#waiting = turn; }))) return null;
    this.#waiting = null;
    this.#running = true;
    try {
      const made = await this.#ask({ type: "make", request });
      return this.#waiting ? null : made;
    } finally {
      this.#running = false;
      this.#waiting?.(true);
    }
  }

  #ask(message, transferred = []) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#answers.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, transferred);
    });
  }

  #settle(id) {
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    return answer;
  }
}

let engine;
let asked = 0; // number of the newest question
let timer = 0;

const player = new Player(() => {
  element("play").classList.toggle("on", player.isPlaying);
  element("play").lastElementChild.textContent = player.isPlaying ? "Stop" : "Play";
  element("playhead").hidden = !player.isPlaying;
  if (player.isPlaying) requestAnimationFrame(movePlayhead);
  else if (walk !== null) setWalk(false);
});

function movePlayhead() {
  if (!player.isPlaying) return;
  element("playhead").style.left = `${100 * player.position}%`;
  requestAnimationFrame(movePlayhead);
}

// Ask for the sound of `state`, when nothing has changed for a moment. `play` it if it is to be
// heard even though nothing plays now; `stays`: go on from the present position.
let toPlay = false;

function change(changes, { play = false, stays = false } = {}) {
  state = { ...state, ...changes };
  toPlay ||= play;
  asked++; // what is being made is not wanted any more
  if (walk !== null) player.repeat(true);
  element("notice").hidden = true;
  showState();
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const take = await make(state);
    if (!take) return;
    const same = stays && shown && shown.samples.length === take.samples.length;
    const from = same ? player.position : 0;
    show(take);
    if (toPlay || player.isPlaying) player.start(take, { from, repeats: take.loop || walk !== null });
    toPlay = false;
    if (walk !== null) step();
  }, PAUSE);
}

// The take of a state; null if a newer one was asked for, or if it failed.
async function make(wanted) {
  const number = ++asked;
  const address = addressOf(wanted);
  const known = takes.get(address) ?? (shown?.address === address ? shown : null);
  if (known) return known;
  showProgress(0);
  try {
    const made = await engine.make(requestOf(wanted, about.genres));
    if (!made || number !== asked) return null;
    return { ...made, state: wanted, address };
  } catch (error) {
    if (number === asked) fail(error);
    return null;
  } finally {
    if (number === asked) showProgress(null);
  }
}

// Make a take the present one.
function show(take, { isReturn = false } = {}) {
  if (shown && !isReturn && shown.address !== take.address) {
    past.push(shown.state);
    past.splice(0, past.length - MOST_BACK);
  }
  shown = take;
  state = take.state;
  setAddress(take.address);
  trail.push(held.style ? state.sequence : state.style);
  trail.splice(0, trail.length - TRAIL);
  drawSpectrogram(element("spectrogram"), take, colours);
  drawSeconds(element("seconds"), take.samples.length / take.rate);
  const seconds = `${(take.samples.length / take.rate).toFixed(1)} s`;
  element("spectrogram").setAttribute("aria-label", `Spectrogram: ${caption(state)}, ${seconds}`);
  element("status").textContent = `${caption(state)}, ${seconds}`;
  if (take.milliseconds !== undefined) {
    element("duration").textContent = `${Math.round(take.milliseconds)} ms`;
    document.body.dataset.milliseconds = Math.round(take.milliseconds);
  }
  document.body.dataset.state = "ready";
  showState();
}

function caption({ start, end, style, sequence, length, bars, bpm }) {
  const mixture = weights => {
    const shares = sharesOf(weights).map((share, number) => [Math.round(100 * share), about.genres[number]]);
    const present = shares.filter(([share]) => share).sort(([a], [b]) => b - a);
    return present.length === 1 ? present[0][1] : present.map(([share, genre]) => `${genre} ${share} %`).join(", ");
  };
  const parts = [];
  if (start.length) parts.push(end ? `${mixture(start)} to ${mixture(end)}` : mixture(start));
  parts.push(isSamePlace(style, sequence) ? named(style) : `style of ${named(style)}, sequence of ${named(sequence)}`);
  if (length === "bars") parts.push(`${bars} ${bars === 1 ? "bar" : "bars"} at ${bpm} BPM`);
  return parts.join(", ");
}

const named = place => `${isSeed(place) ? "" : "near "}seed ${nearestSeed(place)}`;

// Controls show the state; the address and the map, too.
const map = new PlaceMap(element("map"), colours, {
  moved: place => go(() => place),
  stepped: (x, y) => go(from => placeAt(from.x + x, from.y + y)),
});

function showState() {
  const { style, sequence, length } = state;
  const isPiece = length !== "image";
  const starred = [...takes.values()].map(take => take.state.style);
  map.show({ style, sequence, focus: held.style ? sequence : style, trail, starred });
  const count = seedsAround(style).length;
  if (document.activeElement !== element("seed")) element("seed").value = nearestSeed(style);
  element("place").textContent = count === 1 ? "" : `and ${count - 1} more around`;
  if (!state.end) editing = "start";
  const shares = sharesOf(state[editing]);
  sliders.forEach(({ input, output }, number) => {
    input.value = state[editing][number];
    output.textContent = `${Math.round(100 * shares[number])} %`;
  });
  if (element("glide")) {
    press("glide", state.end !== null);
    element("glide").disabled = !isPiece;
    element("ends").hidden = !state.end;
    for (const radio of document.getElementsByName("end")) radio.checked = radio.value === editing;
  }
  for (const radio of document.getElementsByName("length")) radio.checked = radio.value === length;
  for (const label of document.querySelectorAll("[data-for]")) label.hidden = label.dataset.for !== length;
  for (const [id, name] of NUMBERS) {
    if (document.activeElement !== element(id)) element(id).value = state[name];
  }
  press("loop", state.loop && isPiece);
  element("loop").disabled = !isPiece;
  element("truncation").value = state.truncation;
  showOutput("truncation", state.truncation.toFixed(2));
  showOutput("step", (+element("step").value).toFixed(2));
  const nothing = held.style && held.sequence;
  for (const id of ["new", "vary", "walk"]) element(id).disabled = nothing || !shown;
  element("back").disabled = !past.length;
  element("keep").disabled = !shown || takes.has(shown.address);
  for (const id of ["play", "wav", "png", "link"]) element(id).disabled = !shown;
}

function press(id, pressed) {
  element(id).setAttribute("aria-pressed", String(pressed));
}

function showOutput(id, text) {
  document.querySelector(`output[for="${id}"]`).textContent = text;
}

function setAddress(address) {
  if (location.hash.slice(1) === address) return;
  try {
    history.replaceState(null, "", `#${address}`);
  } catch {
    // Browsers limit how often an address may change; the next change sets it.
  }
}

function showProgress(fraction) {
  element("progress").classList.toggle("on", fraction !== null);
  if (fraction !== null) element("progress").value = fraction;
}

function notify(text) {
  element("notice").textContent = text;
  element("notice").hidden = false;
}

function fail(error) {
  document.body.dataset.state = "failed";
  showProgress(null);
  setWalk(false);
  notify(`No sound could be made: ${error.message}`);
  if (!shown) element("status").textContent = "";
}

// Moves. What is held stays; the other moves.
function go(next, { play = true } = {}) {
  const changes = moved(next);
  if (changes) change(changes, { play });
}

function moved(next) {
  if (!about.any_length) {
    const place = next(state.style);
    return { style: place, sequence: place };
  }
  if (held.style && held.sequence) {
    element("status").textContent = "Style and sequence are both held.";
    return null;
  }
  return {
    style: held.style ? state.style : next(state.style),
    sequence: held.sequence ? state.sequence : next(state.sequence),
  };
}

const stepIn = direction => {
  const length = +element("step").value;
  return ({ x, y }) => placeAt(x + length * Math.cos(direction), y + length * Math.sin(direction));
};
const anyDirection = () => 2 * Math.PI * Math.random();

const actions = {
  play() {
    if (player.isPlaying) player.stop();
    else if (shown) player.start(shown);
  },
  new() {
    const place = placeOfSeed(Math.floor(SEEDS * Math.random()));
    go(() => place);
  },
  vary() {
    go(stepIn(anyDirection()));
  },
  walk() {
    setWalk(walk === null);
  },
  back() {
    if (past.length) restore(past.pop());
  },
  keep,
  wav: () => saveWav(shown),
  png: () => savePng(shown),
  link: () => copyLink(shown),
};

// Return to a state, without noting the one that is left.
async function restore(former) {
  clearTimeout(timer);
  state = former;
  const take = await make(former);
  if (!take) return;
  show(take, { isReturn: true });
  player.start(take, { repeats: take.loop || walk !== null });
  if (walk !== null) step();
}

// A walk plays each sound until the next one is made, and goes on at its end.
function setWalk(on) {
  if (on === (walk !== null)) return;
  walk = on ? anyDirection() : null;
  press("walk", on);
  if (!on) {
    asked++; // the next sound is not wanted
    showProgress(null);
    player.repeat(shown.loop);
    return;
  }
  if (player.isPlaying) player.repeat(true);
  else player.start(shown, { repeats: true });
  step();
}

async function step() {
  walk += TURN * (2 * Math.random() - 1);
  const changes = moved(stepIn(walk));
  if (!changes) return setWalk(false);
  const take = await make({ ...state, ...changes });
  if (!take || walk === null) return;
  player.follow(take, () => {
    show(take);
    step();
  });
}

// Takes.
function keep() {
  if (!shown || takes.has(shown.address)) return;
  const take = shown;
  takes.set(take.address, take);
  const item = element("take").content.cloneNode(true).firstElementChild;
  drawSpectrogram(item.querySelector("canvas"), take, colours);
  const text = `${++kept}. ${element("spectrogram").getAttribute("aria-label").replace("Spectrogram: ", "")}`;
  const link = item.querySelector(".caption");
  link.textContent = text;
  link.href = `#${take.address}`;
  const picture = item.querySelector(".picture");
  picture.setAttribute("aria-label", `Play: ${text}`);
  picture.addEventListener("click", () => restore(take.state));
  const acts = {
    wav: () => saveWav(take),
    png: () => savePng(take),
    link: () => copyLink(take),
    remove() {
      takes.delete(take.address);
      const next = item.nextElementSibling ?? item.previousElementSibling;
      item.remove();
      (next?.querySelector(".picture") ?? element("keep")).focus();
      showTakes();
    },
  };
  for (const button of item.querySelectorAll("[data-do]")) {
    button.setAttribute("aria-label", `${button.textContent}: ${text}`);
    button.addEventListener("click", acts[button.dataset.do]);
  }
  element("takes").prepend(item);
  showTakes();
}

function showTakes() {
  element("no-takes").hidden = takes.size > 0;
  showState();
}

function fileName({ state: { start, style } }) {
  const genres = about.genres.filter((_, number) => start[number]).slice(0, 3);
  // As `generate` names its files, where it can make the sound too.
  const place = isSeed(style) ? `seed${String(nearestSeed(style)).padStart(4, "0")}` : `at${style.x}-${style.y}`;
  const words = [about.name, ...genres, place].join("_");
  return words.replace(/[^\p{L}\p{N}_.-]+/gu, "-").slice(0, 100);
}

const saveWav = take => download(wavOf(take), `${fileName(take)}.wav`);

async function savePng(take) {
  const settings = { ...about.spectrogram };
  // Loops have their own hop, so that a whole number of frames fits.
  const hop = take.samples.length / take.columns / about.hop_step;
  if (take.loop) settings.hop_length = about.hop_step * Math.round(hop);
  try {
    download(await pngOf(take, JSON.stringify(settings)), `${fileName(take)}.png`);
  } catch (error) {
    notify(`This browser cannot write the PNG: ${error.message}`);
  }
}

async function copyLink(take) {
  const address = `${location.href.split("#")[0]}#${take.address}`;
  try {
    await navigator.clipboard.writeText(address);
    element("status").textContent = "The link is copied. Whoever has this page hears the same sound.";
  } catch {
    setAddress(take.address);
    element("status").textContent = "This browser does not let pages copy. The link is in the address bar.";
  }
}

// Controls.
const sliders = [...document.querySelectorAll("#genres .slider")].map(row => ({
  name: row.querySelector("button"), input: row.querySelector("input"), output: row.querySelector("output"),
}));
const NUMBERS = [["length-seconds", "seconds"], ["bars", "bars"], ["bpm", "bpm"]];

for (const [id, act] of Object.entries(actions)) {
  element(id).addEventListener("click", act);
}
sliders.forEach(({ name, input }, number) => {
  const set = weights => change({ [editing]: weights }, { stays: true });
  input.addEventListener("input", () => set(state[editing].with(number, +input.value)));
  name.addEventListener("click", () => set(state[editing].map((_, other) => (other === number ? 100 : 0))));
});
element("glide")?.addEventListener("click", () => {
  editing = state.end ? "start" : "end";
  change({ end: state.end ? null : [...state.start] }, { stays: true });
});
for (const radio of document.getElementsByName("end")) {
  radio.addEventListener("change", () => {
    editing = radio.value;
    showState();
  });
}
for (const radio of document.getElementsByName("length")) {
  radio.addEventListener("change", () => {
    change({ length: radio.value, end: radio.value === "image" ? null : state.end });
  });
}
for (const [id, name] of NUMBERS) {
  element(id).addEventListener("input", () => {
    const value = rounded(element(id).valueAsNumber);
    if (isWithin(value, LIMITS[name]) && (name !== "bars" || Number.isInteger(value))) change({ [name]: value });
  });
  element(id).addEventListener("blur", showState);
}
element("loop").addEventListener("click", () => change({ loop: !state.loop }));
element("truncation").addEventListener("input", () => {
  change({ truncation: +element("truncation").value }, { stays: true });
});
element("step").addEventListener("input", showState);
element("seed").addEventListener("input", () => {
  const seed = element("seed").valueAsNumber;
  if (Number.isInteger(seed) && isWithin(seed, [0, SEEDS - 1])) go(() => placeOfSeed(seed), { play: false });
});
for (const part of ["style", "sequence"]) {
  element(`hold-${part}`)?.addEventListener("click", () => {
    held[part] = !held[part];
    press(`hold-${part}`, held[part]);
    showState();
  });
}

// After a click with a pointer, Space is to play and stop, not to press the same button again.
document.addEventListener("click", event => {
  if (event.detail) event.target.closest("button, .segments input")?.blur();
});
const KEYS = { " ": "play", n: "new", v: "vary", w: "walk", b: "back", k: "keep" };
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const { target } = event;
  if (target.matches("input[type=number]")) {
    if (event.key === "Enter") target.blur();
    return;
  }
  if (event.key === " " && target.matches("button, a, input[type=radio]")) return;
  if (event.key.toLowerCase() === "m") element("map").focus();
  const action = KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  if (!element(action).disabled) actions[action]();
});
addEventListener("hashchange", () => {
  if (!engine || location.hash.slice(1) === shown?.address) return;
  const damage = readAddress();
  change({}, { play: true });
  if (damage) notify(damage);
});

// Take the state from the address; returns what is wrong with it.
function readAddress() {
  state = DEFAULTS;
  if (location.hash.length < 2) return "";
  try {
    state = stateOf(decodeURIComponent(location.hash.slice(1)), DEFAULTS, about.any_length);
    return "";
  } catch (error) {
    return `The address of this page names no sound of this instrument (${error.message}). This is its first sound instead.`;
  }
}

const bytesOf = id => Uint8Array.from(atob(JSON.parse(element(id).textContent)), letter => letter.charCodeAt(0)).buffer;

async function begin() {
  const damage = readAddress();
  if (damage) notify(damage);
  showState();
  try {
    const starting = new Engine(JSON.parse(element("engine").textContent));
    const description = JSON.parse(element("description").textContent);
    await starting.load({ description, weights: bytesOf("weights"), kernels: bytesOf("kernels") });
    engine = starting;
  } catch (error) {
    fail(error);
    return;
  }
  const take = await make(state);
  if (take) show(take);
}

begin();
