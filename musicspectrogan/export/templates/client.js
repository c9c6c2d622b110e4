// The engine answers one question at a time. Of those that wait, the newest is asked.
class Engine {
  #worker;
  #next = 0;
  #answers = new Map();
  #running = false;
  #waiting = null;

  // `progress` is called with the part of the present answer that is done.
  constructor(source, progress) {
    this.#worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    this.#worker.addEventListener("message", ({ data }) => {
      if (data.type === "progress") progress(data.fraction);
      else if (data.type === "failed") this.#settle(data.id).reject(new Error(data.message));
      else this.#settle(data.id).resolve(data);
    });
    const fail = event => {
      event.preventDefault();
      const error = new Error(event.message || "the browser does not start the worker of this page");
      for (const id of [...this.#answers.keys()]) this.#settle(id).reject(error);
    };
    this.#worker.addEventListener("error", fail);
    this.#worker.addEventListener("messageerror", fail);
  }

  load(parts) {
    return this.#ask({ type: "load", ...parts }, [parts.weights, parts.kernels]);
  }

  get isIdle() {
    return !this.#running;
  }

  // What was made, or null where a newer question has come.
  async make(request) {
    this.#waiting?.(false);
    if (this.#running && !(await new Promise(turn => { this.#waiting = turn; }))) return null;
    this.#waiting = null;
    this.#running = true;
    try {
      const made = await this.#ask({ type: "make", request });
      return this.#waiting ? null : made;
    } finally {
      this.#running = false;
      this.#waiting?.(true);
    }
  }

  #ask(message, transferred = []) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#answers.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, transferred);
    });
  }

  #settle(id) {
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    return answer;
  }
}
