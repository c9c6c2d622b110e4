// Takes as files: WAV with the loop points and tempo that samplers read, and grey PNG.

const ascii = text => Uint8Array.from(text, letter => letter.charCodeAt(0));
const integers = (Type, ...values) => new Uint8Array(Type.from(values).buffer); // little-endian

function wavOf({ samples, rate, loop, state }) {
  const limited = value => Math.min(1, Math.max(-1, value));
  const pcm = Int16Array.from(samples, value => Math.round(32767 * limited(value)));
  const format = new Uint8Array([...integers(Uint16Array, 1, 1), ...integers(Uint32Array, rate, 2 * rate),
    ...integers(Uint16Array, 2, 16)]);
  const chunks = [["fmt ", format], ["data", new Uint8Array(pcm.buffer)]];
  if (state.length === "bars") {
    // As musicspectrogan.audio.tags writes it: flags, note, beats, meter, tempo.
    chunks.push(["acid", new Uint8Array([
      ...integers(Uint32Array, loop ? 4 : 1), ...integers(Uint16Array, 60, 0x8000), 0, 0, 0, 0,
      ...integers(Uint32Array, 4 * state.bars), ...integers(Uint16Array, 4, 4),
      ...integers(Float32Array, state.bpm),
    ])]);
  }
  if (loop) {
    const sampler = [0, 0, Math.round(1e9 / rate), 60, 0, 0, 0, 1, 0];
    chunks.push(["smpl", integers(Uint32Array, ...sampler, 0, 0, 0, samples.length - 1, 0, 0)]);
  }
  const body = chunks.flatMap(([name, bytes]) => [ascii(name), integers(Uint32Array, bytes.length), bytes]);
  const length = body.reduce((sum, part) => sum + part.length, 4);
  return new Blob([ascii("RIFF"), integers(Uint32Array, length), ascii("WAVE"), ...body], { type: "audio/wav" });
}

// The grey levels, with the settings by which `invert` turns them into sound again.
async function pngOf({ image, rows, columns }, settings) {
  const lines = new Uint8Array(rows * (columns + 1)); // each begins with its filter: none
  for (let row = 0; row < rows; row++) {
    lines.set(image.subarray(row * columns, (row + 1) * columns), row * (columns + 1) + 1);
  }
  const packed = new Blob([lines]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array([...bigEndian(columns), ...bigEndian(rows), 8, 0, 0, 0, 0]);
  return new Blob([
    new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]),
    pngChunk("IHDR", header),
    pngChunk("tEXt", ascii(`spectrogram\0${settings}`)),
    pngChunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())),
    pngChunk("IEND", new Uint8Array()),
  ], { type: "image/png" });
}

const bigEndian = number => [24, 16, 8, 0].map(shift => (number >>> shift) & 255);

function pngChunk(name, contents) {
  const body = new Uint8Array([...ascii(name), ...contents]);
  return new Uint8Array([...bigEndian(contents.length), ...body, ...bigEndian(crc32(body))]);
}

function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
