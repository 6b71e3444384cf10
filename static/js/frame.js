// What every page does: clock, day, status line, find, keys, ground and colours. Exports the page's one live line.

import { Live } from "./live.js";
import { age, clock, clockSeconds, count, inOwnZone } from "./words.js";

export const byId = (id) => document.getElementById(id);
const scheme = location.protocol === "https:" ? "wss" : "ws";
export const live = new Live(`${scheme}://${location.host}/ws/live`, "/live/messages");
// `beside`: symbols that are streamed as a measure for others and are no members of the universe; no count holds them
export const page = { of: Number(document.body.dataset.of), beside: new Set((document.body.dataset.beside ?? "").split(" ")), newest: Date.parse(document.body.dataset.newestBar) || null, minute: new Map() };
const OLD = 3 * 60_000; // after its end; a live minute is stored within seconds

export function initial() {
  const element = byId("initial");
  return element ? JSON.parse(element.textContent) : {};
}

export function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

// A value is replaced in place; a notch beside it fades. An animation of its own, so that no layout is forced in the midst of an update
const still = matchMedia("(prefers-reduced-motion: reduce)");
export function replace(cell, text, difference) {
  if (cell.textContent === text) return;
  cell.textContent = text;
  if (!difference) return;
  cell.classList.toggle("notch-up", difference > 0);
  cell.classList.toggle("notch-down", difference < 0);
  cell.animate([{ opacity: 1 }, { opacity: 0 }], { duration: still.matches ? 1000 : 900, easing: still.matches ? "steps(1, end)" : "linear", pseudoElement: "::before" });
}

const SVG = "http://www.w3.org/2000/svg";
export function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function arrow(direction) {
  const shape = direction === "bullish" ? draw("path", { d: "M3.5 0 7 6H0z" }) : direction === "bearish" ? draw("path", { d: "M3.5 6 0 0h7z" }) : draw("circle", { cx: 3.5, cy: 3, r: 2.4 });
  return draw("svg", { class: `arrow ${direction}`, viewBox: "0 0 7 6", role: "img", "aria-label": direction }, shape);
}

export function make(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

// For measuring: when an applied bar update stood on the screen, beside when it was committed
export function painted(message) {
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      const now = performance.timeOrigin + performance.now();
      document.documentElement.dataset.painted = String(now);
      performance.clearMarks("bars-painted"); // whoever observes has got them; a page that stands open for days must not collect them
      performance.mark("bars-painted", { detail: { topic: message.topic, seq: message.seq, at: message.at, received_at: message.received_at, painted_at: now } });
      channel.port1.close();
    };
    channel.port2.postMessage(0);
  });
}

export const symbolPage = (symbol) => `/symbols/${encodeURIComponent(symbol)}/`;

/* Clock and day */
const day = byId("day");
const hours = day?.dataset.preOpen ? ["preOpen", "open", "close", "postClose"].map((name) => Date.parse(day.dataset[name])) : null;

function whatNext(now) {
  if (!hours) return "no session known";
  const [pre, open, close, post] = hours;
  if (now >= post) return "Session has ended";
  if (now < pre) return byId("next").textContent;
  const [moment, words] = now < open ? [open, "Pre-market, opens in"] : now < close ? [close, "Regular, closes in"] : [post, "Post-market, ends in"];
  const left = Math.ceil((moment - now) / 60_000);
  return left >= 60 ? `${words} ${Math.floor(left / 60)} h ${left % 60} m` : `${words} ${left} m`;
}

function drawDay(now) {
  if (!hours || now < hours[0]) return;
  const [pre, , , post] = hours;
  const share = (moment) => (100 * Math.min(1, Math.max(0, (moment - pre) / (post - pre))));
  const at = share(now);
  for (const group of day.querySelectorAll("g")) {
    const [gone, ahead] = group.children;
    const left = parseFloat(gone.getAttribute("x"));
    const right = parseFloat(ahead.getAttribute("x")) + parseFloat(ahead.getAttribute("width"));
    const middle = Math.min(Math.max(at, left), right);
    gone.setAttribute("width", `${middle - left}%`);
    ahead.setAttribute("x", `${middle}%`);
    ahead.setAttribute("width", `${right - middle}%`);
  }
  for (const line of day.querySelectorAll(".now, .halo")) line.setAttribute("x", `${at}%`);
}

// Once a minute the ledger of gaps, as the server draws it at first
async function freshGaps() {
  if (!hours || document.hidden) return;
  const answer = await fetch(`/api/gaps/?since=${hours[0]}&limit=300`, { headers: { Accept: "application/json" } }).catch(() => null);
  if (!answer?.ok) return;
  const told = (await answer.json()).gaps.filter((gap) => gap.state !== "empty").map((gap) => ({ from: Date.parse(gap.first_minute), to: Date.parse(gap.last_minute) + 60_000, open: gap.state === "open" }));
  const pieces = [];
  for (const gap of told.sort((one, other) => other.open - one.open || one.from - other.from)) {
    const near = pieces.find((piece) => piece.open === gap.open && gap.from <= piece.to && gap.to >= piece.from);
    if (near) Object.assign(near, { from: Math.min(near.from, gap.from), to: Math.max(near.to, gap.to) });
    else pieces.push({ ...gap });
  }
  const share = (moment) => (100 * Math.min(1, Math.max(0, (moment - hours[0]) / (hours[3] - hours[0]))));
  const svg = day.querySelector("svg");
  for (const old of svg.querySelectorAll("a")) old.remove();
  for (const piece of pieces.sort((one, other) => one.open - other.open)) {
    const left = share(piece.from);
    const link = draw("a", { href: "/operations/#gaps", tabindex: -1 }, draw("rect", { class: piece.open ? "gap-open" : "gap-closed", x: `${left}%`, width: `${Math.max(0.12, share(piece.to) - left)}%`, height: 7 }));
    svg.insertBefore(link, svg.querySelector(".halo"));
  }
  const open = pieces.filter((piece) => piece.open);
  const words = byId("gaps-open");
  words.classList.toggle("wide", open.length === 0);
  words.replaceChildren(...(open.length ? [
    make("span", "lamp"), make("b", "", `${open.length} gap${open.length === 1 ? "" : "s"}`), make("span", "wide", ` repairing ${clock(open[0].from)}–${clock(open[0].to)}`),
  ] : ["No open gap"]));
  words.querySelector(".lamp")?.setAttribute("data-state", "down");
}

let lastMinute = 0;
function tickClock() {
  const now = Date.now();
  const element = byId("clock");
  if (element) {
    say(element, `${clockSeconds(now)} ET`);
    element.title = inOwnZone(now);
  }
  if (Math.floor(now / 60_000) !== lastMinute) {
    lastMinute = Math.floor(now / 60_000);
    say(byId("next"), whatNext(now));
    drawDay(now);
    if (element?.dataset.ticked) freshGaps(); // the first time the server has just drawn them
    if (element) element.dataset.ticked = "yes";
  }
}
tickClock();
setInterval(tickClock, 1000);
document.addEventListener("mouseover", (event) => {
  const time = event.target.closest?.("time[datetime]");
  if (time && !time.title) time.title = `${inOwnZone(time.dateTime)}, your time`;
});

/* Status line */
const FEED_WORDS = { live: "live", delayed: "live, delayed by entitlement", connecting: "connecting", down: "down", refused: "refused", cooling: "waiting, too many connections", stopped: "stopped" };
const lines = new Map();
const WORST = ["live", "delayed", "connecting", "cooling", "refused", "down", "stopped"];
export const feedWords = (state) => FEED_WORDS[state] ?? state;

// Several lines speak with one voice: the worst state, summed counts
export function joined() {
  const all = [...lines.values()];
  if (!all.length) return null;
  const sum = (name) => all.reduce((total, line) => total + (line[name] ?? 0), 0);
  const worst = all.reduce((found, line) => (WORST.indexOf(line.state) > WORST.indexOf(found.state) ? line : found));
  return { ...worst, delay_seconds: Math.max(...all.map((line) => line.delay_seconds ?? 0)), frames: sum("frames"), events: sum("events"), bars: sum("bars"), late_events: sum("late_events"), rejected_events: sum("rejected_events"), frames_per_minute: sum("frames_per_minute"), reconnects: sum("reconnects") };
}

function takeFeed(data) {
  if (data.state) lines.set(data.shard ?? "", data);
  const now = joined();
  if (!now) return;
  byId("feed-lamp").dataset.state = now.state;
  say(byId("feed-words"), feedWords(now.state));
  say(byId("feed-since"), now.state === "live" || now.state === "delayed" ? `${now.delay_seconds.toFixed(1)} s behind` : now.since ? `since ${clock(now.since)}` : "");
  say(byId("rejected"), count(now.rejected_events));
}

const firstNewest = page.newest;
const firstCount = Number(document.body.dataset.count);
function takeBars(data, message) {
  if (message.type === "gap") return;
  for (const bar of data.bars ?? []) {
    if (bar.forming || page.beside.has(bar.s)) continue;
    const at = Date.parse(bar.t);
    if (page.newest === null || at > page.newest) {
      page.newest = at;
      page.minute = new Map();
    }
    if (at === page.newest) page.minute.set(bar.s, bar);
  }
  if (!page.minute.size) return;
  say(byId("newest"), clock(page.newest));
  say(byId("coverage"), `${Math.max(page.minute.size, page.newest === firstNewest ? firstCount : 0)} of ${page.of}`);
}

function takeFound(data) {
  const newest = (data.detections ?? []).reduce((found, one) => (!found || one.detection_timestamp > found.detection_timestamp ? one : found), null);
  if (newest) say(byId("last-found"), `${newest.symbol} ${clock(newest.detection_timestamp)}`);
}

// Inside a session a newest bar that has grown old says so; outside of one it is simply the last
function sayAge() {
  const now = Date.now();
  const plate = byId("stale");
  const inside = hours && now >= hours[0] && now < hours[3];
  const old = inside && page.newest !== null && now - page.newest - 60_000 > OLD;
  plate.hidden = !old;
  if (old) say(plate, `stale ${age(now - page.newest - 60_000)}`);
  return old;
}

const LINE = {
  connecting: () => "connecting",
  live: () => "live",
  stale: () => `stale since ${clockSeconds(live.since)}`,
  polling: () => "live, asking every 2 s",
  offline: () => `offline since ${clockSeconds(live.since)}`,
  ended: () => "signed out",
};
const LOST = {
  stale: () => [`Nothing heard for ${age(Date.now() - live.since)}`, "Values are the last received. The line is open, but silent."],
  offline: () => [`Live updates lost ${age(Date.now() - live.since)} ago`, navigator.onLine ? `Values are the last received. Reconnecting, try ${live.tries}.` : "Values are the last received. This device has no network."],
  ended: () => ["You are signed out", "Values are the last received."],
};
let lost = null;
function sayLine() {
  byId("line-lamp").dataset.state = live.state;
  say(byId("line-words"), `This page: ${LINE[live.state]()}`);
  const old = sayAge();
  const state = live.state === "live" || live.state === "polling" ? (old ? "ageing" : joined()?.state ?? "live") : live.state;
  for (const lamp of document.querySelectorAll("[data-lamp]")) lamp.dataset.state = state;
  document.documentElement.dataset.line = live.state;
  if (!LOST[live.state]) {
    lost?.remove();
    lost = null;
    return;
  }
  if (live.state !== "ended" && Date.now() - live.since < 3000) return;
  if (!lost) {
    lost = make("div", "toast standing", make("strong"), make("span"));
    byId("toasts").append(lost);
  }
  const [title, text] = LOST[live.state]();
  say(lost.children[0], title);
  say(lost.children[1], text);
  if (live.state === "ended" && lost.children.length < 3) {
    const again = make("a", "button", "Sign in again");
    again.href = `/accounts/login/?next=${encodeURIComponent(location.pathname + location.search)}`;
    lost.append(again);
  }
}
live.addEventListener("change", sayLine);
live.addEventListener("look", sayLine);
live.watch("feed", takeFeed);
live.watch("patterns", takeFound);
// A symbol's page watches its own bars; the others watch the whole market
if (document.body.dataset.page !== "symbol") live.watch("bars", takeBars);

/* Ground and colours */
const root = document.documentElement;
const ground = () => root.dataset.theme ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");

async function keepAppearance() {
  const token = document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
  const body = new URLSearchParams({ theme: root.dataset.theme ?? "", palette: root.dataset.palette ?? "", hollow: root.dataset.hollow === "yes", single_keys: root.dataset.keys !== "off" });
  const answer = await fetch("/accounts/appearance/", { method: "POST", body, keepalive: true, headers: { "X-CSRFToken": token } }).catch(() => null);
  if (!answer?.ok) toast("The choice holds for this page only", "It could not be kept for the account. Sign in again.");
}

function toast(title, text) {
  const box = make("div", "toast", make("strong", "", title), make("span", "", text));
  byId("toasts").append(box);
  setTimeout(() => box.remove(), 6000);
}

function sayAppearance() {
  for (const element of document.querySelectorAll("[data-say=theme]")) say(element, root.dataset.theme ?? "as the system");
  for (const element of document.querySelectorAll("[data-say=palette]")) say(element, root.dataset.palette === "classic" ? "green and red" : "blue and orange");
  for (const element of document.querySelectorAll("[data-say=hollow]")) say(element, root.dataset.hollow ? "hollow" : "filled");
  for (const element of document.querySelectorAll("[data-say=keys]")) say(element, root.dataset.keys === "off" ? "off" : "on");
  dispatchEvent(new Event("appearance"));
}

export const appearance = {
  theme() {
    root.dataset.theme = ground() === "dark" ? "light" : "dark";
    sayAppearance();
    keepAppearance();
  },
  palette() {
    if (root.dataset.palette) delete root.dataset.palette;
    else root.dataset.palette = "classic";
    sayAppearance();
    keepAppearance();
  },
  hollow() {
    if (root.dataset.hollow) delete root.dataset.hollow;
    else root.dataset.hollow = "yes";
    sayAppearance();
    keepAppearance();
  },
  keys() {
    if (root.dataset.keys) delete root.dataset.keys;
    else root.dataset.keys = "off";
    sayAppearance();
    keepAppearance();
  },
};
matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => dispatchEvent(new Event("appearance")));
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => appearance[button.dataset.do]());

/* Find */
const finder = byId("find");
const asked = byId("find-text");
const list = byId("find-list");
let answers = [];
let cursor = 0;
let asking = 0;

// One list for search and keys, as the server gives it: only pages that this installation has
const PLACES = [...document.querySelectorAll("#keys [data-place]")].map((one) => ({ name: one.textContent, address: one.dataset.place, key: one.dataset.key }));
const ACTIONS = [["Dark or light", "theme", "T"], ["Green and red, or blue and orange", "palette", ""], ["Hollow or filled rising bodies", "hollow", ""]];

function offer(found) {
  answers = found;
  cursor = 0;
  list.replaceChildren(...found.map((one, index) => {
    const row = make("div", "", make("b", "", one.symbol ?? one.word), make("span", "", one.name), make("span", "right", one.hint ?? ""));
    row.setAttribute("role", "option");
    row.id = `find-${index}`;
    row.addEventListener("mousemove", () => choose(index));
    row.addEventListener("click", () => take(one));
    return row;
  }));
  if (!found.length && asked.value.trim()) list.append(make("p", "none", `No symbol is near “${asked.value.trim()}”.`));
  choose(0);
}

function take(one) {
  if (one.address) location.assign(one.address);
  else {
    finder.close();
    appearance[one.act]();
  }
}

function choose(index) {
  cursor = Math.max(0, Math.min(answers.length - 1, index));
  [...list.children].forEach((row, place) => row.setAttribute("aria-selected", String(place === cursor)));
  if (answers.length) asked.setAttribute("aria-activedescendant", `find-${cursor}`);
  else asked.removeAttribute("aria-activedescendant");
  list.children[cursor]?.scrollIntoView({ block: "nearest" });
}

async function search() {
  const text = asked.value.trim();
  const fits = (name) => !text || name.toLowerCase().includes(text.toLowerCase());
  const places = [
    ...PLACES.filter(({ name }) => fits(name)).map(({ name, address, key }) => ({ word: "Go to", name, address, hint: `G ${key.toUpperCase()}` })),
    ...(text ? ACTIONS.filter(([name]) => fits(name)).map(([name, act, hint]) => ({ word: "Switch", name, act, hint })) : []),
  ];
  if (!text) {
    offer(places);
    return;
  }
  const turn = ++asking;
  const answer = await fetch(`/api/symbols/?limit=12&q=${encodeURIComponent(text)}`).catch(() => null);
  if (turn !== asking) return;
  const found = answer?.ok ? (await answer.json()).symbols : [];
  offer([...found.map((one) => ({ symbol: one.symbol, name: one.name, hint: one.sector, address: symbolPage(one.symbol) })), ...places]);
}

function openFind() {
  asked.value = "";
  finder.showModal();
  asked.focus();
  search();
}

byId("find-open")?.addEventListener("click", (event) => { event.preventDefault(); openFind(); });
asked?.addEventListener("input", search);
asked?.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    choose(cursor + (event.key === "ArrowDown" ? 1 : -1));
  } else if (event.key === "Enter" && answers[cursor]) {
    event.preventDefault();
    take(answers[cursor]);
  }
});
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

/* Keys */
const GO = Object.fromEntries(PLACES.map(({ key, address }) => [key, address]));
let going = 0;
export const keys = new Map();

function rows() { return [...document.querySelectorAll("main tr.target")].filter((row) => row.offsetParent !== null); }

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("cursor"));
  const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + by))];
  all[at]?.classList.remove("cursor");
  next.classList.add("cursor");
  next.querySelector("a, button")?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

keys.set("/", openFind);
keys.set("?", () => byId("keys").showModal());
keys.set("t", () => appearance.theme());
keys.set("j", () => step(1));
keys.set("k", () => step(-1));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || root.dataset.keys === "off" || document.querySelector("dialog[open]")) return;
  if (event.target.closest?.("input, select, textarea, [contenteditable]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (Date.now() - going < 1500) {
    going = 0;
    if (GO[key]) location.assign(GO[key]);
    return; // whatever it was, it was meant as a place
  }
  if (key === "g") going = Date.now();
  if (key === " " && event.target.closest?.("button, a, summary")) return; // a focused control keeps its own space bar
  const act = keys.get(key);
  if (!act) return;
  event.preventDefault();
  act(event);
});
byId("keys-open")?.addEventListener("click", () => byId("keys").showModal());
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details[name=account][open]")) if (!open.contains(event.target)) open.open = false;
  const row = event.target.closest?.("main tr.target");
  if (row && !event.target.closest("a, button")) row.querySelector("a, button")?.click();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details[name=account][open]")) { open.open = false; open.querySelector("summary").focus(); }
});

live.connect();
