// The stream: a block a minute. The forming one stands dimmed on top; a closed one takes its place and stays where it is.

import { arrow, byId, draw, feedWords, initial, joined, keys, live, make, page, painted, say, symbolPage } from "./frame.js";
import { clock, clockSeconds, count, points } from "./words.js";

const MINUTE = 60_000;
const BEYOND = { detection: "beyondDetection", retraction: "beyondRetraction" };
const LENGTHS = { "1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240 };
const start = initial();
const { shown, listed, minutes: kept } = start;
const list = byId("minutes");
const blocks = new Map(); // minute → { element, bars: symbol → bar | null, closed: milliseconds | null, forming }
const lastClose = new Map(); // symbol → [{ at, close }, the one before], to know what a minute's return starts from
let { scale } = start;
let paused = false;
let waiting = [];
let missed = { bars: 0, detections: 0 };
let lost = false; // whether messages are missing since the pause
let wanted = new Set();

// What the server has drawn. Bars of the newest minutes may still come; the older ones stay as they are
function adopt({ closes = {}, recent = {} }) {
  blocks.clear();
  lastClose.clear();
  for (const [symbol, known] of Object.entries(closes)) lastClose.set(symbol, known.map(([at, close]) => ({ at, close })));
  for (const element of list.querySelectorAll(".minute")) {
    const at = Date.parse(element.dataset.at);
    const open = recent[element.dataset.at];
    const bars = open ? Object.entries(open).map(([symbol, value]) => [symbol, { points: value, forming: false }]) : [...element.querySelectorAll(".tick")].map((tick) => [tick.dataset.symbol, null]);
    blocks.set(at, { element, at, bars: new Map(bars), closed: null, forming: false, drawn: !open });
    fold(element);
  }
}
adopt(start);

// Messages may be missing: the page is taken from the table again
let reloading = false;
async function reload() {
  if (reloading) return;
  reloading = true;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" }).catch(() => null);
  reloading = false;
  if (!answer?.ok) {
    setTimeout(reload, 2000);
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const state = JSON.parse(fresh.getElementById("initial").textContent);
  const forming = [...blocks.values()].filter((one) => one.forming && one.at > Date.now() - 2 * MINUTE);
  list.replaceChildren(...fresh.getElementById("minutes").children);
  document.querySelector(".axis").replaceChildren(...fresh.querySelector(".axis").children);
  scale = state.scale;
  adopt(state);
  for (const one of forming) if (!blocks.has(one.at)) { list.prepend(one.element); blocks.set(one.at, one); }
  filter();
  sumUp();
}

/* A block */
function block(at) {
  if (blocks.has(at)) return blocks.get(at);
  const time = make("time", "", clock(at));
  time.dateTime = new Date(at).toISOString();
  const stamp = make("div", "stamp", time, make("span"), make("span"));
  stamp.children[1].dataset.count = "";
  stamp.children[2].dataset.closed = "";
  const more = make("button", "more");
  more.type = "button";
  more.hidden = true;
  const strip = draw("svg", { class: "strip", width: "100%", height: 36, role: "img" });
  const element = make("li", "minute bare", stamp, make("div", "rows", strip, make("ol", "events"), more));
  element.dataset.at = time.dateTime;
  const one = { element, at, bars: new Map(), closed: null, forming: true, drawn: false };
  const after = [...list.querySelectorAll(".minute")].find((other) => Date.parse(other.dataset.at) < at);
  list.insertBefore(element, after ?? null);
  byId("nothing")?.remove();
  blocks.set(at, one);
  return one;
}

function trim() {
  const times = [...blocks.keys()].sort((one, other) => other - one);
  for (const at of times.slice(kept + 1)) {
    blocks.get(at).element.remove();
    blocks.delete(at);
  }
}

const returnOf = (bar) => {
  const at = Date.parse(bar.t);
  const before = lastClose.get(bar.s)?.find((one) => one.at === at - MINUTE);
  return (bar.c / (before?.close ?? bar.o) - 1) * 10_000;
};

function remember(bar) {
  const at = Date.parse(bar.t);
  const known = (lastClose.get(bar.s) ?? []).filter((one) => one.at !== at);
  lastClose.set(bar.s, [{ at, close: bar.c }, ...known].sort((one, other) => other.at - one.at).slice(0, 3));
}

// On the outer side of its tick, but near an edge on the inner one
const LABEL_ROOM = 28 / 47;
const toLeft = (value) => (value > 0 ? value / scale > LABEL_ROOM : value / scale > -LABEL_ROOM);

function drawStrip(one) {
  const strip = one.element.querySelector(".strip");
  const values = [...one.bars].filter(([, bar]) => bar).map(([symbol, bar]) => [symbol, bar.points]).sort((a, b) => a[1] - b[1]);
  const parts = [draw("rect", { class: "ground", y: 28, width: "100%", height: 1 }), draw("rect", { class: "zero", x: "50%", y: 14, width: 1, height: 15 })];
  const outermost = new Set([values[0]?.[0], values.at(-1)?.[0]]);
  for (const [symbol, value] of values) {
    const place = `${(50 + 47 * Math.max(-1, Math.min(1, value / scale))).toFixed(2)}%`;
    const rounded = Math.round(value);
    const named = outermost.has(symbol) && rounded !== 0;
    const side = rounded === 0 ? "rest" : rounded > 0 ? "rise" : "fall";
    const other = wanted.size && !wanted.has(symbol) ? " other" : "";
    parts.push(draw("rect", { class: `tick ${side}${other}`, x: place, y: named ? 9 : 18, width: named ? 2 : 1.4, height: named ? 20 : 11, "data-symbol": symbol }));
    if (!named) continue;
    const who = draw("tspan", { class: "who" }, symbol);
    parts.push(draw("text", { class: `name${other}`, x: place, y: 14, "data-symbol": symbol, ...(toLeft(value) ? { dx: -6, "text-anchor": "end" } : { dx: 7 }) }, who, ` ${points(value)}`));
  }
  strip.replaceChildren(...parts);
  strip.setAttribute("aria-label", `Returns of ${values.length} symbols in minute ${clock(one.at)}`);
}

function stamp(one) {
  const counted = one.element.querySelector("[data-count]");
  const closing = one.element.querySelector("[data-closed]");
  one.element.classList.toggle("forming", one.forming);
  if (one.forming) {
    const left = Math.max(0, Math.ceil((one.at + MINUTE - Date.now()) / 1000));
    say(counted, `${one.bars.size} of ${page.of} so far`);
    say(closing, left ? `forming, ${left} s left` : "closing");
    return;
  }
  const closed = one.drawn ? one.bars.size : [...one.bars.values()].filter((bar) => bar && !bar.forming).length;
  say(counted, `${closed} bar${closed === 1 ? "" : "s"}`);
  if (one.closed !== null) say(closing, `closed in ${(one.closed / 1000).toFixed(1)} s`);
}

/* Detections of a block: the best are listed, of the rest there is a count by kind */
function unlisted(element, kind) {
  return Number(element.dataset[BEYOND[kind]] ?? 0);
}

function beyondOf(element) {
  return Object.keys(BEYOND).filter((kind) => list.dataset.kind === "all" || list.dataset.kind === kind).reduce((sum, kind) => sum + unlisted(element, kind), 0);
}

const total = (element, kind) => element.querySelectorAll(`.found[data-kind="${kind}"]`).length + unlisted(element, kind);

// What goes beyond the list becomes a count; those of symbols that are looked at stay longest
function cut(element) {
  for (const [kind, beyond] of Object.entries(BEYOND)) {
    const rows = [...element.querySelectorAll(`.found[data-kind="${kind}"]`)];
    const surplus = rows.sort((one, other) => one.classList.contains("other") - other.classList.contains("other")).slice(listed);
    if (!surplus.length) continue;
    element.dataset[beyond] = String(unlisted(element, kind) + surplus.length);
    for (const row of surplus) row.remove();
  }
}

function fold(element) {
  const events = element.querySelector(".events");
  const rows = [...events.children];
  const visible = rows.filter((row) => !row.classList.contains("other"));
  visible.forEach((row, place) => row.classList.toggle("beyond", place >= shown));
  const beyond = beyondOf(element);
  const hidden = visible.length - shown + beyond;
  const more = element.querySelector(".more");
  more.hidden = hidden <= 0;
  const open = events.classList.contains("open");
  say(more, open ? `Show fewer${beyond ? `; ${count(beyond)} weaker ones stand under Patterns` : ""}` : `and ${count(hidden)} more`);
  element.classList.toggle("bare", visible.length === 0);
}

list.addEventListener("click", (event) => {
  if (!event.target.classList.contains("more")) return;
  const element = event.target.closest(".minute");
  element.querySelector(".events").classList.toggle("open");
  fold(element);
});

function row(one, retracted) {
  const who = make("a", "who", one.symbol);
  who.href = symbolPage(one.symbol);
  const name = make("span", retracted ? "struck" : "", one.name);
  const element = make("li", "found", make("span", "kind", retracted ? "Retraction" : "Detection"), who,
    make("span", "what", arrow(one.direction), name, " ", make("span", "quiet", one.timeframe)),
    make("span", "value", `${retracted ? "was " : ""}${one.confidence.toFixed(2)}`));
  Object.assign(element.dataset, { id: one.id, symbol: one.symbol, kind: retracted ? "retraction" : "detection", confidence: one.confidence });
  return element;
}

function addFound(one, retracted) {
  const at = Date.parse(one.timestamp) + ((LENGTHS[one.timeframe] ?? 1) - 1) * MINUTE;
  const known = blocks.get(at);
  if (!known) return null;
  const events = known.element.querySelector(".events");
  events.querySelector(`[data-id="${one.id}"]`)?.remove();
  const element = row(one, retracted);
  events.append(element);
  mask(element);
  return known;
}

// The best of each symbol, then the second best of each: no doji fills the list with its kin
function arrange(element) {
  const events = element.querySelector(".events");
  const place = new Map();
  const ranked = [...events.children].sort((one, other) => other.dataset.confidence - one.dataset.confidence || Number(one.dataset.id) - Number(other.dataset.id)).map((one) => {
    const rank = place.get(one.dataset.symbol) ?? 0;
    place.set(one.dataset.symbol, rank + 1);
    return [rank, one];
  });
  ranked.sort(([one], [other]) => one - other);
  ranked.forEach(([, one], at) => events.children[at] !== one && events.insertBefore(one, events.children[at]));
}

/* What comes */
function takeBars(data, message) {
  const touched = new Set();
  for (const bar of data.bars ?? []) {
    if (page.beside.has(bar.s)) continue;
    const at = Date.parse(bar.t);
    const oldest = Math.min(...blocks.keys());
    if (blocks.size && at < oldest) continue;
    const one = block(at);
    if (one.drawn) continue; // the server's own block already holds this minute; a revision shows after a reload
    const before = one.bars.get(bar.s);
    if (before && !before.forming && bar.forming) continue;
    one.bars.set(bar.s, { points: returnOf(bar), forming: bar.forming });
    if (!bar.forming) {
      remember(bar);
      if (one.forming) {
        one.forming = false;
        one.closed = Date.parse(message.at) - at - MINUTE;
        if (message.type === "update" && one.closed >= 0 && one.closed < 2 * MINUTE) delays.push(one.closed / 1000);
        else one.closed = null;
      }
    }
    touched.add(one);
  }
  for (const one of touched) {
    drawStrip(one);
    stamp(one);
  }
  trim();
  sumUp();
  if (touched.size) painted(message);
}

function takeFound(data) {
  const touched = new Set();
  for (const one of data.detections ?? []) touched.add(addFound(one, false));
  for (const one of data.retracted ?? []) touched.add(addFound(one, true));
  touched.delete(null);
  for (const one of touched) {
    arrange(one.element);
    cut(one.element);
    fold(one.element);
  }
  sumUp();
}

const handlers = { bars: takeBars, patterns: takeFound };

function receive(topic, data, message) {
  if (message.type === "gap") {
    if (!paused) reload();
    else lost = true;
    return;
  }
  if (!paused) {
    handlers[topic](data, message);
    return;
  }
  waiting.push([topic, data, message]);
  missed.bars += (data.bars ?? []).filter((bar) => !bar.forming && !page.beside.has(bar.s)).length;
  missed.detections += (data.detections ?? []).length + (data.retracted ?? []).length;
  compact();
  if (missed.bars || missed.detections) say(byId("waiting"), `${count(missed.bars)} bars and ${count(missed.detections)} detections wait`);
}

// A pause may be long: of the waiting messages about bars only each bar's newest state is kept
function compact() {
  if (waiting.length < 200) return;
  const bars = new Map();
  const others = [];
  for (const [topic, data, message] of waiting) {
    if (topic !== "bars") others.push([topic, data, message]);
    else for (const bar of data.bars ?? []) bars.set(`${bar.s} ${bar.t}`, [bar, message]);
  }
  const limit = Date.now() - (kept + 1) * MINUTE;
  const fresh = [...bars.values()].filter(([bar]) => Date.parse(bar.t) > limit);
  const newest = waiting.findLast(([topic]) => topic === "bars")?.[2];
  waiting = [...(fresh.length ? [["bars", { bars: fresh.map(([bar]) => bar) }, { ...newest, type: "snapshot" }]] : []), ...others.slice(-150)];
}

function pause(now) {
  paused = now;
  const button = byId("pause");
  button.setAttribute("aria-pressed", String(paused));
  say(button.firstElementChild, paused ? "Go on" : "Pause");
  list.setAttribute("aria-busy", String(paused));
  if (paused) {
    say(byId("waiting"), "Nothing waits yet");
    return;
  }
  if (lost) reload();
  else for (const [topic, data, message] of waiting) handlers[topic](data, message);
  lost = false;
  waiting = [];
  missed = { bars: 0, detections: 0 };
  say(byId("waiting"), "");
}
byId("pause").addEventListener("click", () => pause(!paused));
keys.set(" ", () => pause(!paused));

live.watch("bars", (data, message) => receive("bars", data, message));
live.watch("patterns", (data, message) => receive("patterns", data, message));
live.watch("feed", takeFeed);

/* Filters: they stand in the address */
function mask(element) {
  const { kind } = list.dataset;
  const other = (wanted.size && !wanted.has(element.dataset.symbol)) || ((kind === "detection" || kind === "retraction") && element.dataset.kind !== kind);
  element.classList.toggle("other", Boolean(other));
}

function filter() {
  wanted = new Set(byId("filter-symbols").value.toUpperCase().split(/[\s,]+/).filter(Boolean));
  const { kind } = list.dataset;
  list.classList.toggle("only-events", kind === "detection" || kind === "retraction");
  list.classList.toggle("only-bars", kind === "bars");
  for (const element of list.querySelectorAll(".found")) mask(element);
  for (const tick of list.querySelectorAll(".strip [data-symbol]")) tick.classList.toggle("other", wanted.size > 0 && !wanted.has(tick.dataset.symbol));
  for (const one of blocks.values()) fold(one.element);
}

function keep() {
  const query = new URLSearchParams();
  if (wanted.size) query.set("symbols", [...wanted].join(","));
  if (list.dataset.kind && list.dataset.kind !== "all") query.set("kind", list.dataset.kind);
  if (!byId("raw").hidden) query.set("raw", "1");
  const address = String(query) ? `?${query}` : location.pathname;
  if (address !== location.search) history.replaceState(null, "", address);
}
// The page holds the best of each minute only: those of the chosen symbols are asked for
let asking = 0;
byId("filter-symbols").addEventListener("input", () => {
  filter();
  keep();
  clearTimeout(asking);
  asking = setTimeout(() => !paused && reload(), 500);
});
for (const button of document.querySelectorAll("[data-kind][aria-pressed]")) {
  button.addEventListener("click", () => {
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    list.dataset.kind = button.dataset.kind;
    filter();
    keep();
  });
}
filter();

/* Each message as it came */
const RAW_KEPT = 40;
live.tap = (message) => {
  const raw = byId("raw");
  if (raw.hidden || paused || message.topic === undefined) return;
  const { received_at: _, ...words } = message;
  const text = JSON.stringify(words);
  raw.prepend(make("li", "", text.length > 2000 ? `${text.slice(0, 2000)}… (${count(text.length)} characters)` : text));
  while (raw.children.length > RAW_KEPT) raw.lastChild.remove();
};
byId("raw-open").addEventListener("click", (event) => {
  const open = event.currentTarget.getAttribute("aria-pressed") !== "true";
  event.currentTarget.setAttribute("aria-pressed", String(open));
  byId("raw").hidden = !open;
  byId("raw").replaceChildren();
  keep();
});

/* The right side */
const delays = initial().delays ?? [];
const frames = [];

function columns(svg, values, limit) {
  const most = Math.max(...values, 1e-9);
  const width = 100 / limit;
  svg.replaceChildren(draw("rect", { class: "base", y: 51, width: "100%", height: 1 }), ...values.map((value, place) => {
    const height = (46 * value) / most;
    return draw("rect", { class: place === values.length - 1 ? "newest" : "", x: `${(place + limit - values.length) * width}%`, width: `${width * 0.72}%`, y: 51 - height, height });
  }));
  return most;
}

function takeFeed() {
  const now = joined();
  if (!now) return;
  frames.push(now.frames_per_minute);
  if (frames.length > 60) frames.shift();
  columns(byId("frames-history"), frames, 60);
  say(byId("frames-now"), `${count(now.frames_per_minute)} now`);
  const lamp = document.querySelector("[data-feed-lamp]");
  lamp.dataset.state = now.state;
  say(byId("feed-at"), clockSeconds(Date.now()));
  say(byId("fact-state"), feedWords(now.state));
  say(byId("fact-delay"), `${now.delay_seconds.toFixed(1)} s`);
  for (const [id, name] of [["frames", "frames"], ["events", "events"], ["bars", "bars"], ["late", "late_events"], ["rejected", "rejected_events"], ["reconnects", "reconnects"]]) say(byId(`fact-${id}`), count(now[name]));
  const behind = now.state === "live" || now.state === "delayed" ? `, ${now.delay_seconds.toFixed(1)} s behind: ${count(now.frames_per_minute)} frames a minute` : now.since ? ` since ${clock(now.since)}` : "";
  say(byId("lede-first"), `Feed ${feedWords(now.state)}${behind}.`);
}

function sumUp() {
  const closed = [...blocks.values()].filter((one) => !one.forming).sort((one, other) => other.at - one.at)[0];
  if (closed) {
    const bars = closed.drawn ? closed.bars.size : [...closed.bars.values()].filter((bar) => !bar.forming).length;
    const found = total(closed.element, "detection");
    say(byId("lede-second"), `Minute ${clock(closed.at)} closed with ${bars} of ${page.of} bars and ${found} detection${found === 1 ? "" : "s"}.`);
  }
  for (const [id, kind] of [["sum-standing", "detection"], ["sum-retracted", "retraction"]]) say(byId(id), count([...list.querySelectorAll(".minute")].reduce((sum, element) => sum + total(element, kind), 0)));
  while (delays.length > 60) delays.shift();
  if (!delays.length) return;
  const most = columns(byId("delay-history"), delays, 60);
  const middle = [...delays].sort((one, other) => one - other)[Math.floor(delays.length / 2)];
  say(byId("delay-count"), `${delays.length} minute${delays.length === 1 ? "" : "s"}`);
  say(byId("delay-words"), `median ${middle.toFixed(1)} s`);
  say(byId("delay-max"), `longest ${most.toFixed(1)} s`);
}
sumUp();

function sayOwn() {
  const words = live.state === "live" ? `your connection: message ${live.last === null ? "–" : count(live.received)}, ${live.skipped ? `${count(live.skipped)} skipped` : "nothing skipped"}` : live.state === "stale" ? `your connection: silent since ${clockSeconds(live.since)}` : live.state === "offline" ? `your connection: offline, try ${live.tries}` : "your connection: opening";
  byId("own-lamp").dataset.state = live.state;
  say(byId("own-line"), words);
}
live.addEventListener("look", () => {
  sayOwn();
  for (const one of blocks.values()) if (one.forming && !paused) stamp(one);
});
live.addEventListener("change", sayOwn);
