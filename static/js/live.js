// One socket for the page. Watches topics, checks that no message is missing, resumes after a break, and says how the line is:
// connecting, live, stale (open, but nothing comes), polling (no socket opens, so it asks every 2 s), offline, ended (signed out).

const SILENT_AFTER = 20_000; // the server speaks at least every 10 s
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;
const RESUME_PATIENCE = 3_000;
const ASK_AFTER = 4_000; // without a socket for so long, the page asks
const ASK_EVERY = 2_000;
const NOBODY = 4401; // close code: this browser is not signed in any more

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
  #lostAt = Date.now(); // since when no socket is open
  #asked = 0;
  #asking = false;
  tap = null; // is told each message as it came

  constructor(address, door) {
    super();
    this.address = address;
    this.door = door; // the same messages by HTTP, for those whom no socket opens
    setInterval(() => this.#look(), 1000);
    addEventListener("online", () => this.#hurry());
    addEventListener("offline", () => this.#drop());
    addEventListener("pagehide", () => this.#socket?.close());
    addEventListener("pageshow", (event) => event.persisted && this.#hurry());
    document.addEventListener("resume", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#wake());
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
    socket.addEventListener("close", (event) => socket === this.#socket && (event.code === NOBODY ? this.#end() : this.#later()));
  }

  #opened() {
    this.#heard = Date.now();
    this.#lostAt = null;
    const fresh = [...this.#topics].filter(([, known]) => known.last === null).map(([topic]) => topic);
    if (fresh.length) this.#send({ action: "watch", topics: fresh });
    for (const [topic, known] of this.#topics) if (known.last !== null) this.#send({ action: "resume", topic, after: known.last });
    this.#become("live");
  }

  #take(text) {
    this.#takeOne(JSON.parse(text));
  }

  #takeOne(message) {
    message.received_at = performance.timeOrigin + performance.now();
    this.#heard = Date.now();
    if (this.#socket?.readyState === WebSocket.OPEN) this.#tries = 0;
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
    this.tap?.(message);
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
    this.#lostAt ??= Date.now();
    this.#socket = null;
    this.#tries += 1;
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (this.#tries - 1)) * (0.5 + Math.random() / 2);
    if (this.state !== "polling") this.#become("offline");
    this.#timer = setTimeout(() => this.connect(), wait);
  }

  #end() {
    this.#socket = null;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#become("ended");
  }

  #hurry() {
    if (this.#timer || (!this.#socket && this.state !== "ended")) this.connect();
  }

  // The network is gone, or the other side has been silent for too long: a dead line may look open for minutes
  #drop() {
    const socket = this.#socket;
    if (!socket) {
      if (this.state !== "ended") this.#become("offline");
      return;
    }
    this.#later();
    socket.close();
  }

  // After sleep nothing that looks open can be trusted
  #wake() {
    if (this.#socket?.readyState === WebSocket.OPEN && Date.now() - this.#heard > SILENT_AFTER) this.#drop();
    this.#hurry();
  }

  #look() {
    const now = Date.now();
    if (this.#socket?.readyState === WebSocket.OPEN && now - this.#heard > SILENT_AFTER) {
      this.#become("stale");
      this.#drop();
      this.#hurry();
    }
    const without = this.state === "offline" || this.state === "polling" || this.state === "connecting";
    if (without && this.#socket?.readyState !== WebSocket.OPEN && now - (this.#lostAt ?? now) > ASK_AFTER && now - this.#asked >= ASK_EVERY - 100 && !document.hidden) this.#ask();
    this.dispatchEvent(new Event("look"));
  }

  // The same messages, asked for: what came on each topic since the last one
  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    this.#asked = Date.now();
    const query = new URLSearchParams([...this.#topics].map(([topic, known]) => ["topic", `${topic}@${known.last ?? ""}`]));
    try {
      const answer = await fetch(`${this.door}?${query}`, { headers: { Accept: "application/json" }, redirect: "manual" });
      if (answer.type === "opaqueredirect") { // to the door
        this.#end();
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const messages = await answer.json();
      if (this.#socket?.readyState === WebSocket.OPEN) return;
      for (const message of messages) this.#takeOne(message);
      this.#become("polling");
    } catch {
      if (this.state === "polling") this.#become("offline");
    } finally {
      this.#asking = false;
    }
  }

  #become(state) {
    if (state === this.state) return;
    this.since = state === "stale" ? this.#heard : Date.now();
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
