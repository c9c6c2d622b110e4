"use strict";
// Without this script the page is a plain list of players. It adds playing all in turn, looping,
// favourites and filters. Nothing is sent or requested; favourites stay in the browser.
(() => {
  const main = document.getElementById("sounds");
  const sections = [...main.querySelectorAll("section")];
  const figures = [...main.querySelectorAll("figure")];
  const players = figures.map(figure => figure.querySelector("audio"));
  const [playAll, loop, onlyFavourites, genre, status] =
    ["play-all", "loop", "only-favourites", "genre", "status"].map(id => document.getElementById(id));

  const isPressed = button => button.getAttribute("aria-pressed") === "true";
  const press = (button, pressed) => button.setAttribute("aria-pressed", String(pressed));

  // Favourites. Where the browser denies storage, or something else is stored there, they last as
  // long as the page is open.
  const storage = `musicspectrogan favourites ${location.pathname.replace(/index\.html$/, "")}`;
  const favourites = new Set(stored());

  function stored() {
    try {
      const list = JSON.parse(localStorage.getItem(storage));
      return Array.isArray(list) ? list : [];
    } catch {
      return [];
    }
  }

  function mark(figure, star) {
    const { sound } = figure.dataset;
    if (!favourites.delete(sound)) favourites.add(sound);
    press(star, favourites.has(sound));
    try {
      localStorage.setItem(storage, JSON.stringify([...favourites]));
      choose();
    } catch {
      choose();
      status.textContent += " This browser forgets favourites when the page is closed.";
    }
    if (figure.hidden) onlyFavourites.focus();
  }

  // Filters. What is hidden or folded does not play.
  const isShown = figure => !figure.closest("[hidden], details:not([open])");

  function choose() {
    const wanted = genre ? genre.value : "";
    for (const figure of figures) figure.hidden = isPressed(onlyFavourites) && !favourites.has(figure.dataset.sound);
    sections.forEach((section, number) => {
      const folded = section.querySelector("details");
      if (folded) {
        folded.hidden = !folded.querySelector("figure:not([hidden])");
        if (isPressed(onlyFavourites)) folded.open = true;
      }
      section.hidden = (wanted && wanted !== String(number)) || !section.querySelector("figure:not([hidden])");
    });
    const count = figures.filter(figure => !figure.closest("[hidden]")).length;
    const some = `${count} of ${figures.length} shown.`;
    status.textContent = count === figures.length ? "" : count ? some : `${some} A star marks a favourite.`;
    silenceHidden();
  }

  function silenceHidden() {
    const hidden = players.filter(player => !player.paused && !isShown(player));
    if (inTurn && hidden.includes(current)) playNext();
    for (const player of hidden) player.pause();
  }

  // Playback. One at a time; all in turn until the user pauses one.
  let current = null;
  let inTurn = false;
  let heard = false;

  function play(player) {
    current = player;
    player.currentTime = 0;
    player.closest("figure").scrollIntoView({ block: "nearest" });
    player.play().catch(error => {
      if (!inTurn || current !== player || error.name === "AbortError") return;
      if (error.name === "NotAllowedError") setInTurn(false);
      else playNext();
    });
  }

  function playNext() {
    const shown = players.filter(isShown);
    const next = shown[shown.indexOf(current) + 1];
    if (next) play(next);
    else if (isPressed(loop) && heard && shown.length) {
      heard = false; // otherwise a page whose files are missing would loop for ever
      play(shown[0]);
    } else setInTurn(false);
  }

  function setInTurn(on) {
    inTurn = on;
    heard = false;
    playAll.textContent = on ? "Stop" : "Play all";
    playAll.classList.toggle("playing", on);
    setLoops();
  }

  // While all are played in turn, the whole list loops.
  function setLoops() {
    for (const player of players) player.loop = isPressed(loop) && !inTurn;
  }

  // Media events do not bubble, but can be captured.
  const onPlayer = (kind, act) =>
    main.addEventListener(kind, event => event.target.matches("audio") && act(event.target), true);

  onPlayer("play", player => {
    current = player;
    for (const other of players) if (other !== player && !other.paused) other.pause();
    player.closest("figure").classList.add("playing");
  });
  onPlayer("pause", player => {
    player.closest("figure").classList.remove("playing");
    if (inTurn && player === current && !player.ended) setInTurn(false);
  });
  onPlayer("ended", player => {
    if (!inTurn || player !== current) return;
    heard = true;
    playNext();
  });

  playAll.addEventListener("click", () => {
    if (inTurn) {
      setInTurn(false);
      current.pause();
    } else {
      current = null;
      setInTurn(true);
      playNext();
    }
  });
  loop.addEventListener("click", () => {
    press(loop, !isPressed(loop));
    setLoops();
  });
  onlyFavourites.addEventListener("click", () => {
    press(onlyFavourites, !isPressed(onlyFavourites));
    choose();
  });
  if (genre) genre.addEventListener("change", choose);
  main.addEventListener("toggle", silenceHidden, true);
  for (const figure of figures) {
    const star = figure.querySelector(".star");
    press(star, favourites.has(figure.dataset.sound));
    star.addEventListener("click", () => mark(figure, star));
  }
  // Real music is folded on a phone, and open elsewhere.
  const wide = matchMedia("(min-width: 40.01rem)").matches;
  for (const folded of main.querySelectorAll("details")) folded.open = wide;
  setLoops();
  document.documentElement.classList.add("scripted");
})();
