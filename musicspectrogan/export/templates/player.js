// Plays one sound at a time. The next one replaces it at once, or follows where it ends.
//
// In a change the old sound fades in FADE_OUT seconds, and the new one begins FADE_IN before the
// end of that: the sum is never louder than one sound, and attacks are heard.
const FADE_OUT = 0.02;
const FADE_IN = 0.005;
// Seconds before a change at which the browser must know of it: what it learns too late, clicks.
const NOTICE = 0.06;
// A time that never comes.
const NEVER = 1e9;

class Player {
  #context = null;
  #present = null;
  #next = null;
  #timer = 0;
  #begun = null;
  #rate;
  #changed;

  // `changed` is called when playing begins or ends.
  constructor(rate, changed) {
    this.#rate = rate;
    this.#changed = changed;
  }

  get isPlaying() {
    return this.#present !== null;
  }

  // The fraction of the present sound that has been heard.
  get position() {
    if (!this.#present) return 0;
    const { zero, seconds } = this.#present;
    return Math.max(0, this.#context.currentTime - zero) / seconds % 1;
  }

  // Play a take now, from a fraction of it. `repeats`: until something else is asked for.
  start(take, { from = 0, repeats = take.loop } = {}) {
    this.wake();
    this.#dropNext();
    let at = this.#soon;
    if (this.#present) at = this.#release(this.#present, at) - FADE_IN;
    this.#present = this.#voice(take, at, from, repeats);
    this.#changed();
  }

  // Play a take when the present one is at its end; `begun` is called then.
  follow(take, begun) {
    this.#dropNext();
    const { zero, seconds } = this.#present;
    const passes = Math.ceil((this.#soon + FADE_OUT - zero) / seconds);
    const end = zero + passes * seconds;
    this.#release(this.#present, end - FADE_OUT + FADE_IN);
    this.#next = this.#voice(take, end, 0, true);
    this.#begun = begun;
    this.#timer = setTimeout(() => this.#advance(), (end - this.#context.currentTime) * 1000);
  }

  // Whether the present sound is played again at its end. What was to follow is forgotten.
  repeat(repeats) {
    this.#dropNext();
    if (this.#present) this.#present.source.loop = repeats;
  }

  stop() {
    if (!this.#present) return;
    this.#dropNext();
    this.#release(this.#present, this.#soon);
    this.#end();
  }

  // To be called when the user does something: some browsers allow sound only then, and a sound
  // that is asked for is ready later.
  wake() {
    if (!this.#context) {
      // At the rate of the sounds, because browsers resample single sounds roughly.
      try {
        this.#context = new AudioContext({ sampleRate: this.#rate });
      } catch {
        this.#context = new AudioContext();
      }
    }
    if (this.#context.state !== "running") this.#context.resume().catch(() => {});
  }

  #voice(take, at, from, repeats) {
    const context = this.#context;
    const buffer = context.createBuffer(1, take.samples.length, take.rate);
    buffer.copyToChannel(take.samples, 0);
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.loop = repeats;
    const gain = context.createGain();
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(1, at + FADE_IN);
    source.connect(gain).connect(context.destination);
    source.start(at, from * buffer.duration);
    const zero = at - from * buffer.duration;
    const voice = { source, gain: gain.gain, at, zero, seconds: buffer.duration };
    source.onended = () => {
      gain.disconnect();
      if (this.#present !== voice) return;
      if (this.#next) this.#advance(); // the timer is late
      else this.#end();
    };
    return voice;
  }

  // Fade a voice from a time on, or when it has faded in; returns when it is silent.
  #release({ source, gain, at }, from) {
    from = Math.max(from, at + FADE_IN);
    gain.cancelScheduledValues(from);
    gain.setValueAtTime(1, from);
    gain.linearRampToValueAtTime(0, from + FADE_OUT);
    source.stop(from + FADE_OUT);
    return from + FADE_OUT;
  }

  #end() {
    this.#present = null;
    this.#changed();
  }

  #advance() {
    clearTimeout(this.#timer);
    this.#present = this.#next;
    this.#next = null;
    this.#begun();
  }

  get #soon() {
    return this.#context.currentTime + NOTICE;
  }

  // Forget what was to follow, unless it is too late.
  #dropNext() {
    if (!this.#next) return;
    if (this.#next.at - FADE_OUT < this.#soon) {
      this.#advance();
      return;
    }
    clearTimeout(this.#timer);
    this.#next.source.onended = null;
    this.#next.source.stop();
    this.#next = null;
    this.#present.gain.cancelScheduledValues(this.#context.currentTime);
    this.#present.gain.setValueAtTime(1, this.#context.currentTime);
    this.#present.source.stop(NEVER);
  }
}
