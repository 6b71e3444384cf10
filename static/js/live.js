// One socket for the page. Watches topics, checks that no message is missing, resumes after a break, and says how the line is.

const SILENT_AFTER = 20_000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
const RESUME_PATIENCE = 3_000;

export class Live extends EventTarget {
  #socket = null;
  #topics = new Map(); // topic → { apply: [], last: number | null, asked: milliseconds }
  last = null; // number of the newest message of any topic
  #tries = 0;
  #timer = 0;
  #heard = Date.now();
  state = "connecting";
  since = Date.now();
  skipped = 0;
  received = 0;
  delay = null;

  constructor(address) {
    super();
    this.address = address;
    setInterval(() => this.#look(), 1000);
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#hurry());
  }

  get tries() { return this.#tries; }

  // `apply(data, message)` gets every snapshot and update; message.type is "gap" where the page must ask again what it may have missed
  watch(topic, apply) {
    const known = this.#topics.get(topic);
    if (known) {
      known.apply.push(apply);
      return;
    }
    this.#topics.set(topic, { apply: [apply], last: null, asked: 0 });
    if (this.#socket?.readyState === WebSocket.OPEN) this.#send({ action: "watch", topics: [topic] });
  }

  unwatch(topic) {
    if (this.#topics.delete(topic) && this.#socket?.readyState === WebSocket.OPEN) this.#send({ action: "unwatch", topics: [topic] });
  }

  connect() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    let socket;
    try {
      socket = new WebSocket(this.address);
    } catch {
      this.#later();
      return;
    }
    this.#socket = socket;
    socket.addEventListener("open", () => this.#opened());
    socket.addEventListener("message", (event) => this.#take(event.data));
    socket.addEventListener("close", () => socket === this.#socket && this.#later());
  }

  #opened() {
    this.#heard = Date.now();
    const fresh = [...this.#topics].filter(([, known]) => known.last === null).map(([topic]) => topic);
    if (fresh.length) this.#send({ action: "watch", topics: fresh });
    for (const [topic, known] of this.#topics) if (known.last !== null) this.#send({ action: "resume", topic, after: known.last });
    this.#become("live");
  }

  #take(text) {
    const message = JSON.parse(text);
    message.received_at = performance.timeOrigin + performance.now();
    this.#heard = Date.now();
    this.#tries = 0;
    if (message.type === "heartbeat") {
      this.#become(message.live ? "live" : "stale"); // the server hears nothing from the rest of the stack
      return;
    }
    this.received += 1;
    const known = this.#topics.get(message.topic);
    if (message.type === "error") {
      this.#topics.delete(message.topic);
      console.warn(`TickStock live: ${message.data.detail}`);
      return;
    }
    if (!known) return;
    if (message.type === "update" && !this.#follows(message, known)) return;
    if (message.type === "gap" || message.skipped) this.skipped += message.skipped ?? 1;
    this.last = message.seq;
    known.last = message.seq;
    if (message.at) this.delay = Date.now() - Date.parse(message.at);
    for (const apply of known.apply) apply(message.data ?? {}, message);
  }

  // A message names the one before it. One seen already is dropped; after a missing one the server is asked to go on from the last seen.
  #follows(message, known) {
    if (known.last === null || message.prev === null || message.prev === known.last) return true;
    if (message.seq <= known.last) return false;
    if (message.prev < known.last) return true;
    if (Date.now() - known.asked > RESUME_PATIENCE) {
      known.asked = Date.now();
      this.skipped += 1;
      this.#send({ action: "resume", topic: message.topic, after: known.last });
    }
    return false;
  }

  #send(message) { this.#socket.send(JSON.stringify(message)); }

  #later() {
    this.#socket = null;
    this.#tries += 1;
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (this.#tries - 1)) * (0.5 + Math.random() / 2);
    this.#become("offline");
    this.#timer = setTimeout(() => this.connect(), wait);
  }

  #hurry() {
    if (this.#timer) this.connect();
  }

  #look() {
    const open = this.#socket?.readyState === WebSocket.OPEN;
    if (open && Date.now() - this.#heard > SILENT_AFTER) this.#become("stale");
    this.dispatchEvent(new Event("look"));
  }

  #become(state) {
    if (state === this.state) return;
    this.since = state === "stale" ? this.#heard : Date.now();
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
