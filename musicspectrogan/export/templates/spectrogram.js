// Spectrograms in colour: grey levels through the colours of `about.colours`.

// 256 colours of 3 bytes, between stops given as hexadecimal digits.
function colourTable(stops) {
  const table = new Uint8Array(256 * 3);
  for (let level = 0; level < 256; level++) {
    const at = (level / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [low, low + 1].map(stop => parseInt(stops[stop].substr(2 * channel, 2), 16));
      table[3 * level + channel] = Math.round(from + (to - from) * (at - low));
    }
  }
  return table;
}

function drawSpectrogram(canvas, { image, rows, columns }, colours) {
  canvas.width = columns;
  canvas.height = rows;
  const pixels = new ImageData(columns, rows);
  for (let pixel = 0; pixel < image.length; pixel++) {
    pixels.data.set(colours.subarray(3 * image[pixel], 3 * image[pixel] + 3), 4 * pixel);
    pixels.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// Labels of the time axis at round times, about MARK_WIDTH apart, as spans with a position.
const MARK_WIDTH = 70;

function drawSeconds(axis, seconds) {
  const most = Math.max(1, axis.clientWidth / MARK_WIDTH);
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50];
  const step = steps.find(each => seconds / each <= most) ?? 100;
  const count = Math.floor(seconds / step) + 1;
  axis.replaceChildren(...Array.from({ length: count }, (_, number) => {
    const mark = document.createElement("span");
    mark.textContent = `${rounded(number * step)}${number === count - 1 ? " s" : ""}`;
    mark.style.setProperty("--at", `${(100 * number * step) / seconds}%`);
    return mark;
  }));
}
