// What is played. `state` is all that determines a sound, and is what the address holds. Controls
// change it and ask for a sound; only the newest question counts.

const about = JSON.parse(element("about").textContent);
const colours = colourTable(about.colours);

// Milliseconds without a change before the sound is asked for, while something is moved.
const PAUSE = 90;
// Seconds up to which images of what is moved are shown meanwhile.
const LONGEST_PREVIEW = 12;
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
const past = []; // states
const trail = [];

function element(id) {
  return document.getElementById(id);
}

let engine;
let asked = 0; // number of the newest question
let timer = 0;

const player = new Player(about.spectrogram.sample_rate, () => {
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

// Ask for the sound of `state`. `play`: it is to be heard even if nothing plays now; `stays`: it
// goes on from the present position; `moves`: more changes are likely to follow.
let toPlay = false;

function change(changes, { play = false, stays = false, moves = false } = {}) {
  interrupt();
  state = { ...state, ...changes };
  toPlay ||= play;
  showState();
  if (!engine) return; // it begins with what is the state then
  if (moves) preview();
  timer = setTimeout(async () => {
    const take = await make(state);
    if (!take) return;
    const same = stays && shown && shown.samples.length === take.samples.length;
    const from = same ? player.position : 0;
    show(take);
    if (toPlay || player.isPlaying) begin(take, from);
  }, moves ? PAUSE : 0);
}

// What is being made, and what was to follow in a walk, is not wanted any more.
function interrupt() {
  clearTimeout(timer);
  asked++;
  if (walk !== null) player.repeat(true);
  element("notice").hidden = true;
}

function begin(take, from = 0) {
  toPlay = false;
  player.start(take, { from, repeats: take.loop || walk !== null });
  if (walk !== null) step();
}

// Show the images on the way from one sound to another, as far as the engine has time.
async function preview() {
  const wanted = state;
  if (!engine.isIdle || lengthOf(wanted) > LONGEST_PREVIEW) return;
  try {
    const made = await engine.make({ ...requestOf(wanted, about.genres), sound: false });
    if (made && state !== shown?.state) drawSpectrogram(element("spectrogram"), made, colours);
    if (state !== wanted) preview();
  } catch {
    // The sound fails, too, and says so.
  }
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

// Moves. What is held stays; the other moves.
function go(next, { play = true, moves = false } = {}) {
  const changes = moved(next);
  if (changes) change(changes, { play, moves });
}

function moved(next) {
  if (!about.any_length) {
    const place = next(state.style);
    return { style: place, sequence: place };
  }
  if (held.style && held.sequence) {
    element("status").textContent = "Style and sequence are both held. Release one of them.";
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
    else if (shown) begin(shown);
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
  interrupt();
  state = former;
  const take = await make(former);
  if (!take) return;
  show(take, { isReturn: true });
  begin(take);
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
  if (walk === null) return;
  walk += TURN * (2 * Math.random() - 1);
  const changes = moved(stepIn(walk));
  if (!changes) {
    setWalk(false);
    return;
  }
  const take = await make({ ...state, ...changes });
  if (!take || walk === null) return;
  player.follow(take, () => {
    show(take);
    step();
  });
}
