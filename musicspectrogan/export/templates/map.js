// The map: a window onto the places around the present one, moved in by dragging and by arrow keys.

// Seeds across the window.
const SPAN = 4;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
// How a light fades from its centre to its edge.
const GLOW = [[0, 1], [0.08, 0.75], [0.25, 0.4], [0.55, 0.12], [1, 0]];
// Share of the way that the window moves towards the present place in each frame.
const GLIDE = 0.18;

class PlaceMap {
  #canvas;
  #centre = null;
  #places;
  #dragging = false;
  #frame = 0;
  #colours;

  // `moved` is called with a place to go to, `stepped` with a way to go.
  constructor(canvas, colours, { moved, stepped }) {
    this.#canvas = canvas;
    this.#colours = colours;
    const drag = event => moved(this.#placeAt(event));
    canvas.addEventListener("pointerdown", event => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      this.#dragging = true;
      drag(event);
    });
    canvas.addEventListener("pointermove", event => this.#dragging && drag(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, () => {
        this.#dragging = false;
        this.#redraw();
      });
    }
    canvas.addEventListener("keydown", event => {
      if (!(event.key in ARROWS) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const length = event.shiftKey ? 1 : 0.1;
      stepped(...ARROWS[event.key].map(part => part * length));
    });
    new ResizeObserver(() => this.#redraw()).observe(canvas);
  }

  // Show the places of style and sequence, those that were heard, and those of kept takes; `focus`
  // is where to look.
  show(places) {
    this.#places = places;
    this.#redraw();
  }

  #placeAt(event) {
    const box = this.#canvas.getBoundingClientRect();
    const along = (at, start, length) => (Math.min(1, Math.max(0, (at - start) / length)) - 0.5) * SPAN;
    return placeAt(
      this.#centre.x + along(event.clientX, box.left, box.width),
      this.#centre.y + along(event.clientY, box.top, box.height),
    );
  }

  #redraw() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const canvas = this.#canvas;
    const size = canvas.clientWidth;
    if (!size || !this.#places) return;
    this.#moveWindow();
    const scale = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(size * scale)) canvas.width = canvas.height = Math.round(size * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, size, size);
    const at = ({ x, y }) =>
      [difference(this.#centre.x, x), difference(this.#centre.y, y)].map(way => (way / SPAN + 0.5) * size);
    this.#drawLights(pen, at, size / SPAN);
    const { style, sequence, trail, starred } = this.#places;
    this.#drawTrail(pen, trail.map(at));
    pen.fillStyle = "#fff";
    for (const place of starred) drawStar(pen, ...at(place));
    drawMarkers(pen, size, at(style), at(sequence));
  }

  // Follow the present place, but not while it is dragged.
  #moveWindow() {
    const target = this.#places.focus;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#centre ??= target;
    const way = [difference(this.#centre.x, target.x), difference(this.#centre.y, target.y)];
    const distance = Math.hypot(...way);
    if (this.#dragging || distance === 0) return;
    // What is out of the window is not flown to.
    if (calm || distance < 0.01 || distance > SPAN) {
      this.#centre = target;
      return;
    }
    this.#centre = { x: this.#centre.x + GLIDE * way[0], y: this.#centre.y + GLIDE * way[1] };
    this.#redraw();
  }

  // Each seed is a light of its own size and colour, by which places are recognised.
  #drawLights(pen, at, cell) {
    const [column, row] = [Math.floor(this.#centre.x), Math.floor(this.#centre.y)];
    pen.globalCompositeOperation = "lighter";
    for (let y = row - SPAN / 2; y <= row + SPAN / 2 + 1; y++) {
      for (let x = column - SPAN / 2; x <= column + SPAN / 2 + 1; x++) {
        const [left, top] = at({ x, y });
        const seed = seedAt(x, y);
        const level = 3 * Math.round(70 + 150 * scrambled(seed));
        const colour = this.#colours.slice(level, level + 3).join(" ");
        const radius = cell * (0.3 + 0.55 * scrambled(seed + SEEDS));
        const glow = pen.createRadialGradient(left, top, 0, left, top, radius);
        for (const [part, opacity] of GLOW) glow.addColorStop(part, `rgb(${colour} / ${opacity})`);
        pen.fillStyle = glow;
        drawDisc(pen, left, top, radius);
      }
    }
    pen.globalCompositeOperation = "source-over";
  }

  #drawTrail(pen, points) {
    points.forEach((point, number) => {
      pen.fillStyle = `rgb(255 255 255 / ${(0.5 * (number + 1)) / points.length})`;
      drawDisc(pen, ...point, 2.5);
    });
  }
}

// Style is a disc and sequence a ring around it, unless the two have parted.
function drawMarkers(pen, size, style, sequence) {
  const parted = style[0] !== sequence[0] || style[1] !== sequence[1];
  const inside = point => point.map(part => Math.min(size - 14, Math.max(14, part)));
  [style, sequence] = [inside(style), inside(sequence)];
  pen.lineWidth = 5;
  pen.strokeStyle = "#000a";
  drawRing(pen, ...sequence);
  pen.lineWidth = 2.5;
  pen.strokeStyle = "#fff";
  drawRing(pen, ...sequence);
  pen.fillStyle = "#000a";
  drawDisc(pen, ...style, 8);
  pen.fillStyle = "#fff";
  drawDisc(pen, ...style, 6);
  if (!parted) return;
  pen.font = "600 12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  // On the far sides of each other, where there is room.
  const room = 80;
  for (const [name, [x, y], other] of [["style", style, sequence], ["sequence", sequence, style]]) {
    const right = x < room || (x < size - room && (x > other[0] || (x === other[0] && name === "style")));
    pen.textAlign = right ? "left" : "right";
    pen.lineWidth = 3;
    pen.strokeStyle = "#000a";
    pen.strokeText(name, x + (right ? 18 : -18), y);
    pen.fillText(name, x + (right ? 18 : -18), y);
  }
}

function drawDisc(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

function drawRing(pen, x, y) {
  pen.beginPath();
  pen.arc(x, y, 11, 0, 2 * Math.PI);
  pen.stroke();
}

function drawStar(pen, x, y) {
  pen.beginPath();
  for (let corner = 0; corner < 10; corner++) {
    const radius = corner % 2 ? 2.6 : 6.5;
    pen.lineTo(x + radius * Math.sin((corner * Math.PI) / 5), y - radius * Math.cos((corner * Math.PI) / 5));
  }
  pen.fill();
}

// A number from 0 to 1 that looks random.
function scrambled(number) {
  let bits = Math.imul(number ^ (number >>> 16), 0x45d9f3b);
  bits = Math.imul(bits ^ (bits >>> 16), 0x45d9f3b);
  return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32;
}
