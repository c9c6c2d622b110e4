/**
 * The random numbers of PyTorch on the CPU, so that a seed is the same music here as there.
 */

/** SHA-256 of ASCII text, as eight 32-bit numbers (FIPS 180-4). */
function sha256(text) {
  const length = text.length;
  const words = new Uint32Array(16 * Math.ceil((length + 9) / 64));
  for (let i = 0; i < length; i++) words[i >> 2] |= text.charCodeAt(i) << (24 - 8 * (i & 3));
  words[length >> 2] |= 0x80 << (24 - 8 * (length & 3));
  words[words.length - 1] = 8 * length;
  const hash = Uint32Array.from(SHA_START);
  const schedule = new Uint32Array(64);
  const rotated = (x, by) => (x >>> by) | (x << (32 - by));
  for (let start = 0; start < words.length; start += 16) {
    schedule.set(words.subarray(start, start + 16));
    for (let i = 16; i < 64; i++) {
      const near = schedule[i - 2], far = schedule[i - 15];
      const s0 = rotated(far, 7) ^ rotated(far, 18) ^ (far >>> 3);
      const s1 = rotated(near, 17) ^ rotated(near, 19) ^ (near >>> 10);
      schedule[i] = schedule[i - 16] + s0 + schedule[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let i = 0; i < 64; i++) {
      const s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
      const first = (h + s1 + ((e & f) ^ (~e & g)) + SHA_ROUNDS[i] + schedule[i]) | 0;
      const s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
      const second = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => (hash[i] += word));
  }
  return hash;
}

// The first 32 bits of the fractional parts of the square roots of the first 8 primes, and of the
// cube roots of the first 64. Doubles hold 53 bits, enough for these.
const PRIMES = Array.from({ length: 310 }, (_, i) => i + 2).filter((n) =>
  Array.from({ length: Math.floor(Math.sqrt(n)) - 1 }, (_, i) => i + 2).every((d) => n % d),
);
const fraction32 = (x) => Math.floor((x % 1) * 2 ** 32);
const SHA_START = PRIMES.slice(0, 8).map((prime) => fraction32(Math.sqrt(prime)));
const SHA_ROUNDS = PRIMES.slice(0, 64).map((prime) => fraction32(Math.cbrt(prime)));

/**
 * The Mersenne Twister MT19937 (M. Matsumoto, T. Nishimura, 1998), as seeded by PyTorch.
 */
class Twister {
  /** @param {number} seed 32 bits */
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, before) + i;
    }
    this.used = 624;
  }

  /** The next 32 bits. */
  next() {
    if (this.used === 624) this.refill();
    let word = this.state[this.used++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  refill() {
    const state = this.state;
    for (let i = 0; i < 624; i++) {
      const both = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
    }
    this.used = 0;
  }

  /** Uniform from 0 to 1, in the precision of a float. */
  uniform() {
    return (this.next() & 0xffffff) / 2 ** 24;
  }

  /** Uniform from 0 to 1, in the precision of a double. */
  uniformDouble() {
    const high = this.next() & 0x1fffff;
    return (high * 2 ** 32 + this.next()) / 2 ** 53;
  }
}

/** Standard normal numbers as those of `torch.randn`, by the method of Box and Muller. */
function normals(twister, size) {
  const numbers = new Float32Array(size);
  if (size < 16) {
    for (let i = 0; i < size; i += 2) {
      const angle = 2 * Math.PI * twister.uniformDouble();
      const radius = Math.sqrt(-2 * Math.log1p(-twister.uniformDouble()));
      numbers[i] = radius * Math.cos(angle);
      if (i + 1 < size) numbers[i + 1] = radius * Math.sin(angle);
    }
    return numbers;
  }
  const transform = (start) => {
    for (let i = start; i < start + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - numbers[i]));
      const angle = 2 * Math.PI * numbers[i + 8];
      numbers[i] = radius * Math.cos(angle);
      numbers[i + 8] = radius * Math.sin(angle);
    }
  };
  for (let i = 0; i < size; i++) numbers[i] = twister.uniform();
  for (let i = 0; i + 16 <= size; i += 16) transform(i);
  if (size % 16) {
    // The last 16 numbers are drawn again.
    for (let i = size - 16; i < size; i++) numbers[i] = twister.uniform();
    transform(size - 16);
  }
  return numbers;
}

/**
 * Draw one of the vectors that latents consist of; equal ones are drawn equally.
 *
 * @param {number} size
 * @param {Latents} latents
 * @param {...(string|number)} position Which of them, as in `sampler.py`.
 * @returns {Float32Array}
 */
function draw(size, latents, ...position) {
  if ("from" in latents) {
    const start = draw(size, latents.from, ...position);
    if (!latents.fraction) return start;
    return slerp(start, draw(size, latents.to, ...position), latents.fraction);
  }
  const seed = String(latents.seed);
  if (!/^\d+$/.test(seed)) throw new Error(`${seed} is not a seed; give a whole number`);
  const own = latents.vary === undefined ? [seed] : [seed, "'vary'", latents.vary];
  const place = position.map((part) => (typeof part === "string" ? `'${part}'` : part));
  // As Python writes a tuple.
  const hash = sha256(`(${["'sample'", ...own, ...place].join(", ")})`);
  return normals(new Twister((hash[0] << 31) | (hash[1] >>> 1)), size);
}

/** Interpolate between latents: directions on an arc, lengths linearly; see `sampler.py`. */
function slerp(start, end, fraction) {
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const lengths = [Math.sqrt(dot(start, start)), Math.sqrt(dot(end, end))];
  const cosine = dot(start, end) / (lengths[0] * lengths[1]);
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  const sine = Math.sin(angle);
  let weights = [1 - fraction, fraction];
  if (sine >= 1e-4) {
    const length = (1 - fraction) * lengths[0] + fraction * lengths[1];
    weights = [
      ((Math.sin((1 - fraction) * angle) / sine) * length) / lengths[0],
      ((Math.sin(fraction * angle) / sine) * length) / lengths[1],
    ];
  }
  return start.map((x, i) => weights[0] * x + weights[1] * end[i]);
}

/** The normal distribution function. */
function normalDistribution(x) {
  // Its series around 0 (G. Marsaglia, Evaluating the normal distribution, 2004).
  if (Math.abs(x) > 8) return x < 0 ? 0 : 1;
  let term = x, sum = x;
  for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) {
    term *= (x * x) / n;
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}
