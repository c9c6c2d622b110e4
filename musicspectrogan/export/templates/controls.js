// The controls: they show the state, and change it.

const sliders = [...document.querySelectorAll("#genres .slider")].map(row => ({
  name: row.querySelector("button"), input: row.querySelector("input"), output: row.querySelector("output"),
}));
const NUMBERS = [["length-seconds", "seconds"], ["bars", "bars"], ["bpm", "bpm"]];

const map = new PlaceMap(element("map"), colours, {
  moved: place => go(() => place, { moves: true }),
  stepped: (x, y) => go(from => placeAt(from.x + x, from.y + y), { moves: true }),
});

function showState() {
  const { style, sequence, length } = state;
  const isPiece = length !== "image";
  const starred = [...takes.values()].map(take => take.state.style);
  const focus = held.style ? sequence : style;
  map.show({ style, sequence, focus, trail, starred });
  const count = seedsAround(focus).length;
  if (document.activeElement !== element("seed")) element("seed").value = nearestSeed(focus);
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

function showProgress(fraction) {
  element("progress").classList.toggle("on", fraction !== null);
  if (fraction !== null) element("progress").value = fraction;
}

function notify(text) {
  element("notice").textContent = text;
  element("notice").hidden = false;
}

for (const [id, act] of Object.entries(actions)) {
  element(id).addEventListener("click", act);
}
sliders.forEach(({ name, input }, number) => {
  const set = (weights, moves) => change({ [editing]: weights }, { stays: true, moves });
  input.addEventListener("input", () => set(state[editing].with(number, +input.value), true));
  name.addEventListener("click", () => {
    set(state[editing].map((_, other) => (other === number ? 100 : 0)), false);
  });
});
element("glide")?.addEventListener("click", () => {
  editing = state.end ? "start" : "end";
  // To the next genre, so that it is heard.
  const next = state.start.map((_, number) => state.start.at(number - 1));
  change({ end: state.end ? null : next }, { stays: true });
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
    if (!isWithin(value, LIMITS[name]) || (name === "bars" && !Number.isInteger(value))) return;
    change({ [name]: value }, { moves: true });
  });
  element(id).addEventListener("blur", showState);
}
element("spectrogram").addEventListener("click", event => {
  if (!shown) return;
  interrupt();
  begin(shown, event.offsetX / event.target.clientWidth);
});
element("loop").addEventListener("click", () => change({ loop: !state.loop }));
element("truncation").addEventListener("input", () => {
  change({ truncation: +element("truncation").value }, { stays: true, moves: true });
});
element("step").addEventListener("input", showState);
element("seed").addEventListener("input", () => {
  const seed = element("seed").valueAsNumber;
  if (!Number.isInteger(seed) || !isWithin(seed, [0, SEEDS - 1])) return;
  go(() => placeOfSeed(seed), { play: false, moves: true });
});
for (const part of ["style", "sequence"]) {
  element(`hold-${part}`)?.addEventListener("click", () => {
    held[part] = !held[part];
    press(`hold-${part}`, held[part]);
    showState();
  });
}

for (const kind of ["pointerup", "touchend", "click", "keydown"]) {
  addEventListener(kind, () => player.wake(), true);
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
