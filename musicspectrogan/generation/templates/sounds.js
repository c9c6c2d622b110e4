"use strict";
// Without this script the page is a plain list of players; with it, these can be played in turn, looped,
// marked and filtered. Nothing is sent or asked for; favourites stay in the browser.
(() => {
  const main = document.getElementById("sounds");
  const sections = [...main.querySelectorAll("section")];
  const figures = [...main.querySelectorAll("figure")];
  const players = figures.map(figure => figure.querySelector("audio"));
  const [playAll, loop, onlyFavourites, genre, status] =
    ["play-all", "loop", "only-favourites", "genre", "status"].map(id => document.getElementById(id));

  const isPressed = button => button.getAttribute("aria-pressed") === "true";
  const press = (button, pressed) => button.setAttribute("aria-pressed", String(pressed));

  // Favourites. The browser may deny its storage, or another program may have written to it: then the
  // marks last as long as the page is open.
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

  // What is shown. What is folded away is not, and nothing that is not shown makes a sound.
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

  // Playing. One at a time; all in turn until one is paused by hand.
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
      heard = false; // or a page whose files are gone would go round for ever
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

  // While all are played in turn it is the whole that loops.
  function setLoops() {
    for (const player of players) player.loop = isPressed(loop) && !inTurn;
  }

  // Events of players do not bubble, but they can be captured.
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
  // Folded away on a phone, side by side elsewhere.
  const wide = matchMedia("(min-width: 40.01rem)").matches;
  for (const folded of main.querySelectorAll("details")) folded.open = wide;
  setLoops();
  document.documentElement.classList.add("scripted");
})();
