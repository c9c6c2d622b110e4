// The start of the instrument, and its address.

function setAddress(address) {
  if (location.hash.slice(1) === address) return;
  try {
    history.replaceState(null, "", `#${address}`);
  } catch {
    location.replace(`#${address}`); // some browsers refuse the other way for files on disk
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
    return `The address of this page names no sound of this instrument (${error.message}).` +
      " This is its first sound instead.";
  }
}

const dataOf = id => JSON.parse(element(id).textContent);
const bytesOf = id => Uint8Array.from(atob(dataOf(id)), letter => letter.charCodeAt(0)).buffer;

async function load() {
  const damage = readAddress();
  if (damage) notify(damage);
  showState();
  try {
    const starting = new Engine(dataOf("engine"), showProgress);
    await starting.load({ description: dataOf("description"), weights: bytesOf("weights"), kernels: bytesOf("kernels") });
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
