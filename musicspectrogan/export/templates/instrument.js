// The start of the instrument, and its address.

function setAddress(address) {
  if (location.hash.slice(1) === address) return;
  try {
    history.replaceState(null, "", `#${address}`);
  } catch {
    // Browsers limit how often an address may change; the next change sets it.
  }
}

addEventListener("hashchange", () => {
  if (location.hash.slice(1) === shown?.address) return;
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

async function load() {
  const damage = readAddress();
  if (damage) notify(damage);
  showState();
  try {
    const starting = new Engine(JSON.parse(element("engine").textContent), showProgress);
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

addEventListener("error", event => event.error && fail(event.error));
addEventListener("unhandledrejection", event => fail(event.reason));

function fail(error) {
  document.body.dataset.state = "failed";
  showProgress(null);
  setWalk(false);
  notify(`No sound could be made: ${error.message}`);
  if (!shown) element("status").textContent = "";
}

load();
