// Takes: their captions, the list of those that are kept, and what is saved of them.

const takes = new Map(); // by address
let kept = 0; // number of the last take

function caption({ start, end, style, sequence, length, bars, bpm }) {
  const mixture = weights => {
    const shares = sharesOf(weights).map((share, number) => [about.genres[number], Math.round(100 * share)]);
    const present = shares.filter(([, share]) => share).sort(([, a], [, b]) => b - a);
    if (present.length === 1) return present[0][0];
    return present.map(([genre, share]) => `${genre} ${share} %`).join(", ");
  };
  const parts = [];
  if (start.length) parts.push(end ? `${mixture(start)} to ${mixture(end)}` : mixture(start));
  if (isSamePlace(style, sequence)) parts.push(named(style));
  else parts.push(`style ${named(style)}`, `sequence ${named(sequence)}`);
  if (length === "bars") parts.push(`${bars} ${bars === 1 ? "bar" : "bars"} at ${bpm} BPM`);
  return parts.join(", ");
}

const named = place => `${isSeed(place) ? "" : "near "}seed ${nearestSeed(place)}`;

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
  const seed = String(nearestSeed(style)).padStart(4, "0");
  const place = isSeed(style) ? `seed${seed}` : `at${style.x}-${style.y}`;
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
  // On disk, the page's own address would tell where, and leads nobody else there.
  const isOnDisk = location.protocol === "file:";
  const page = isOnDisk ? "" : location.href.split("#")[0];
  try {
    await navigator.clipboard.writeText(`${page}#${take.address}`);
    element("status").textContent = isOnDisk
      ? "The end of the link is copied. Add it to the address of the page, wherever it is opened."
      : "The link is copied. Whoever opens it hears the same sound.";
  } catch {
    setAddress(take.address);
    element("status").textContent = "This browser does not let pages copy. The link is in the address bar.";
  }
}
