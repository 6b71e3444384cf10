// One symbol: subscribes first, fetches second, merges by the bar's start; so nothing between the two is lost. The address holds the view.

import { arrow, byId, initial, keys, live, make, painted, replace, say } from "./frame.js";
import { PriceChart } from "./chart.js";
import { explain, statusWords } from "./explain.js";
import { drawStrip } from "./strip.js";
import { NONE, age, bucket, change, clock, clockSeconds, count, day, price, shares, tone } from "./words.js";

const start = initial();
const { symbol, previous, asOf } = start;
const STEPS = { "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14_400, "1d": 86_400, "1w": 604_800 };
const LINES = start.lines; // choice → { words, names of its values }
const CLASSES = { ema_20: "line-a", sma_50: "line-b", vwap: "line-c", bands: "quiet", rsi: "second" };
const LOOKED_AT = new Set(["1m", "5m", "15m", "1h", "1d"]); // where patterns are looked for
const BARS = { "1m": 720 };
const MOST_BARS = 5000;
const POLL = 2000;
const OLD = 3 * 60_000;
const MINUTE = 60_000;
const path = encodeURIComponent(symbol);

const bars = new Map(Object.keys(STEPS).map((name) => [name, new Map()])); // interval → start → bar
const older = new Map(); // interval → cursor of the page before; null: there is none
const found = new Map(); // id → detection
const revised = new Map(Object.entries(start.revised ?? {}).map(([at, count]) => [Number(at), count])); // minute → times
let interval = start.interval;
let { regular, adjusted } = start;
let gaps = [];
let curves = {};
let chart = null;
let chosen = null;
let marksVisible = byId("marks").getAttribute("aria-pressed") === "true";
let shownAt = null;
let loaded = false;

/* The address */
const wantedLines = () => [...document.querySelectorAll("[data-line]")].filter((box) => box.checked).map((box) => box.dataset.line);

function address() {
  const query = new URLSearchParams();
  query.set("interval", interval);
  const lines = wantedLines();
  if (lines.join() !== "ema_20,sma_50,vwap") query.set("lines", lines.join(","));
  if (regular) query.set("hours", "regular");
  if (adjusted) query.set("adjusted", "1");
  if (!marksVisible) query.set("patterns", "0");
  if (chosen && chosenByHand) query.set("detection", chosen.id);
  if (asOf) query.set("as_of", asOf);
  return `?${query}`;
}
let chosenByHand = new URLSearchParams(location.search).has("detection");

function keep({ push = false } = {}) {
  byId("as-of-interval").value = interval;
  if (address() === location.search) return;
  if (push) history.pushState(null, "", address());
  else history.replaceState(null, "", address());
}
addEventListener("popstate", () => location.reload());

/* Bars */
const normal = (bar) => ({
  at: Date.parse(bar.t), end: Date.parse(bar.end ?? bar.t) + (bar.end ? 0 : MINUTE), o: bar.o, h: bar.h, l: bar.l, c: bar.c, v: Number(bar.v), vw: bar.vw, final: bar.final, forming: bar.forming ?? false,
  revision: bar.revision ?? null,
});

// A closed bar replaces a forming one, never the other way; of two closed ones the higher revision stands
function merge(into, bar) {
  const known = into.get(bar.at);
  if (known && !known.forming && bar.forming) return false;
  if (known && !known.forming && !bar.forming && bar.revision !== null && known.revision !== null && bar.revision < known.revision) return false;
  if (known && bar.revision === null && !bar.forming) bar.revision = known.revision;
  into.set(bar.at, bar);
  return true;
}

const inRegular = (at) => start.sessions.some(([, open, close]) => at >= open && at < close) || at < (start.sessions[0]?.[0] ?? 0);

function ordered(name) {
  const all = [...bars.get(name).values()].sort((one, other) => one.at - other.at);
  return regular && STEPS[name] <= 1800 ? all.filter((bar) => inRegular(bar.at)) : all;
}
const lastMinute = () => Math.max(...bars.get("1m").keys());

async function ask(place) {
  const answer = await fetch(place, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

const then = () => `${asOf ? `&as_of=${encodeURIComponent(asOf)}` : ""}${adjusted ? "&adjusted=1" : ""}`;

async function fetchBars(name, { cursor = "", limit = BARS[name] ?? 500 } = {}) {
  const { bars: page, next } = await ask(`/api/bars/${path}/?interval=${name}&limit=${limit}${cursor ? `&cursor=${cursor}` : ""}${then()}`);
  const now = asOf ? Date.parse(asOf) : Date.now();
  const into = bars.get(name);
  for (const one of page.map(normal)) {
    if (name === "1m") merge(into, one);
    else into.set(one.at, { ...one, forming: one.end > now });
  }
  if (cursor || !older.has(name)) older.set(name, next);
}

// A longer bar is the fold of its minutes; the newest is made anew whenever one of them moves
function fold(at) {
  if (interval === "1m") return bars.get("1m").get(at) ?? null;
  if (STEPS[interval] >= 86_400) {
    const last = ordered(interval).at(-1);
    const minute = bars.get("1m").get(at);
    if (!last || !minute || at < last.at || at >= last.end || !inRegular(at)) return null;
    return { ...last, h: Math.max(last.h, minute.h), l: Math.min(last.l, minute.l), c: at >= lastMinute() ? minute.c : last.c, forming: true };
  }
  const [from, to] = bucket(at, STEPS[interval]);
  const parts = ordered("1m").filter((bar) => bar.at >= from && bar.at < to);
  if (!parts.length) return null;
  return {
    at: from, end: to, o: parts[0].o, h: Math.max(...parts.map((bar) => bar.h)), l: Math.min(...parts.map((bar) => bar.l)), c: parts.at(-1).c,
    v: parts.reduce((sum, bar) => sum + bar.v, 0), vw: null, final: false, forming: to > Date.now(), revision: null,
  };
}

async function fetchOlder(name) {
  const cursor = older.get(name);
  if (!cursor) return false;
  older.set(name, null); // one page at a time
  try {
    await fetchBars(name, { cursor, limit: Math.min(MOST_BARS, 1000) });
    return true;
  } catch {
    older.set(name, cursor);
    return false;
  }
}

/* Indicator lines */
async function fetchLines() {
  const names = wantedLines().flatMap((line) => LINES[line].names);
  const asked = interval;
  if (!names.length) {
    curves = {};
    drawLines();
    return;
  }
  const limit = Math.min(MOST_BARS, Math.max(60, bars.get(asked).size));
  const { t, values } = await ask(`/api/indicators/${path}/lines/?interval=${asked}&name=${names.join(",")}&limit=${limit}${then()}`);
  if (asked !== interval) return;
  const starts = t.map((at) => Date.parse(at));
  curves = Object.fromEntries(Object.entries(values).map(([name, line]) => [name, line.map((value, place) => ({ at: starts[place], value })).filter((point) => point.value !== null)]));
  drawLines();
}

async function fetchVwap() {
  if (interval === "1m" && curves.vwap) {
    say(byId("figure-vwap"), price(curves.vwap.at(-1)?.value));
    return;
  }
  const { values } = await ask(`/api/indicators/${path}/lines/?interval=1m&name=vwap&limit=1${then()}`);
  say(byId("figure-vwap"), price(values.vwap.at(-1)));
}

async function fetchFound() {
  if (!LOOKED_AT.has(interval)) return;
  const { patterns } = await ask(`/api/patterns/?symbol=${path}&timeframe=${interval}&limit=100`);
  for (const one of patterns) keepFound(one);
  listFound();
}

async function fetchGaps() {
  const { gaps: page } = await ask(`/api/gaps/?symbol=${path}&limit=300`);
  takeGaps(page.filter((gap) => gap.state !== "empty").map((gap) => ({ from: Date.parse(gap.first_minute), to: Date.parse(gap.last_minute) + MINUTE, open: gap.state === "open", cause: gap.cause.replace("_", " ") })));
}

function takeGaps(list) {
  gaps = list.map((gap) => ({ ...gap, words: `${gap.cause[0].toUpperCase()}${gap.cause.slice(1)} ${clock(gap.from)} to ${clock(gap.to)}, repairing` }));
  chart?.gaps(gaps);
}

/* The chart */
function drawLines() {
  if (!chart) return;
  const wanted = new Set(wantedLines().flatMap((line) => LINES[line].names));
  const shown = new Set(ordered(interval).map((bar) => bar.at));
  for (const name of Object.values(LINES).flatMap((line) => line.names)) chart.lines(name, wanted.has(name) ? (curves[name] ?? []).filter((point) => shown.has(point.at)) : []);
  readLines();
}

function drawMarks() {
  chart?.marks([...found.values()].filter((one) => one.timeframe === interval), { visible: marksVisible, chosen: marksVisible && chosen?.timeframe === interval ? chosen : null });
}

function drawAll(fresh) {
  const all = ordered(interval);
  const empty = byId("chart-empty");
  empty.hidden = all.length > 0;
  if (!all.length) say(empty, asOf ? `No bar of ${symbol} was stored by then.` : STEPS[interval] < 86_400 ? `No minute of ${symbol} is stored yet. The first one appears a few seconds after its end.` : `No daily bar of ${symbol} is stored. “manage.py import_history” asks the feed for them.`);
  chart.hours(start.sessions);
  chart.gaps(gaps);
  chart.show(all, { step: STEPS[interval], fresh });
  drawLines();
  drawMarks();
  drawCells();
  read();
}

const timesRevised = (from, to) => {
  if (to - from <= MINUTE) return revised.get(from) ?? 0;
  let sum = 0;
  for (const [at, count] of revised) if (at >= from && at < to) sum += count;
  return sum;
};
const drawCells = () => chart && drawStrip(chart.cells(), STEPS[interval] * 1000, { gaps, revised: timesRevised });

function read() {
  const all = bars.get(interval);
  const bar = all.get(shownAt ?? ordered(interval).at(-1)?.at);
  const line = byId("readout");
  if (!bar) { line.textContent = "\u00a0"; return; }
  const label = (name, text) => [" ", make("i", "", name), ` ${text}`];
  const left = (bar.end ?? bar.at + MINUTE) - Date.now();
  const state = asOf || !bar.forming ? "" : left > 0 ? ` forming, ${age(left)} left` : " closing";
  const when = STEPS[interval] >= 86_400 ? day(bar.at) : `${Date.now() - bar.at > 64_800_000 ? `${day(bar.at)} ` : ""}${clock(bar.at)}`;
  line.replaceChildren(make("b", "", interval), ` ${when}`, ...label("O", price(bar.o)), ...label("H", price(bar.h)), ...label("L", price(bar.l)), ...label("C", price(bar.c)), ...label("V", shares(bar.v)), make("i", "", state));
  readLines();
}

function readLines() {
  const parts = wantedLines().flatMap((line) => {
    const known = LINES[line].names.filter((name) => curves[name]?.length);
    if (!known.length) return [];
    const values = known.map((name) => (shownAt === null ? curves[name].at(-1).value : chart?.valueAt(name, shownAt) ?? null));
    return [make("span", CLASSES[line], `${LINES[line].words} ${values.map((value) => (line === "rsi" ? value?.toFixed(0) ?? NONE : price(value))).join(" ")}`)];
  });
  byId("readout-lines").replaceChildren(...(parts.length ? parts : ["\u00a0"]));
}

/* The price */
let lastShown = 0;
let waitingPrice = 0;
function showPrice() {
  clearTimeout(waitingPrice);
  if (asOf) return;
  if (Date.now() - lastShown < 250) { waitingPrice = setTimeout(showPrice, 250); return; }
  lastShown = Date.now();
  const last = bars.get("1m").get(lastMinute());
  if (!last) return;
  const halt = byId("halt");
  if (halt && last.at > Date.parse(halt.dataset.began)) halt.remove(); // it trades again
  const cell = byId("price");
  const before = Number(cell.dataset.value ?? last.c);
  cell.dataset.value = last.c;
  replace(cell, price(last.c), last.c - before);
  const share = previous ? (last.c / previous - 1) * 100 : null;
  say(byId("difference"), change(previous ? last.c - previous : null));
  byId("difference").className = tone(share);
  say(byId("change"), share === null ? NONE : `${change(share)}%`);
  byId("change").className = tone(share);
  sayAge();
}

function sayAge() {
  const last = lastMinute();
  const bar = bars.get("1m").get(last);
  if (!bar || asOf) return;
  const old = Date.now() - last - MINUTE;
  const when = Date.now() - last > 86_400_000 ? `${day(last)} ${clock(last)}` : clock(last);
  say(byId("price-age"), bar.forming ? `bar ${when} forming` : old > OLD ? `bar ${when}, ${age(old)} old` : `bar ${when}`);
  byId("price").classList.toggle("stale", old > OLD || live.state === "offline" || live.state === "stale" || live.state === "ended");
}

/* The last quote: there is one only where the feed's Q are subscribed, and it is never stored */
const OLD_QUOTE = 60_000;
let quote = null;
function takeQuote(data) {
  const sent = (data.quotes ?? []).find((one) => one.s === symbol);
  if (!sent) return;
  quote = { ...sent, at: Date.parse(sent.t) };
  byId("bid-ask").hidden = false;
  const both = quote.bp !== null && quote.ap !== null;
  const apart = both ? quote.ap - quote.bp : null;
  say(byId("bid"), price(quote.bp));
  say(byId("ask"), price(quote.ap));
  say(byId("bid-size"), quote.bp === null ? "" : count(quote.bs));
  say(byId("ask-size"), quote.ap === null ? "" : count(quote.as));
  say(byId("spread"), apart === null ? "one side only" : apart < 0 ? "crossed" : apart === 0 ? "locked" : `${apart.toFixed(quote.ap < 1 ? 4 : 2)}, ${(apart / ((quote.ap + quote.bp) / 2) * 10_000).toFixed(1)} bp`);
  sayQuoteAge();
}

function sayQuoteAge() {
  if (!quote) return;
  const old = Date.now() - quote.at;
  say(byId("bid-ask-age"), `${old < 3_600_000 ? clockSeconds(quote.at) : `${day(quote.at)} ${clock(quote.at)}`}${old > OLD_QUOTE ? `, ${age(old)} old` : ""}`);
  byId("bid-ask").classList.toggle("stale", old > OLD_QUOTE || live.state === "offline" || live.state === "stale" || live.state === "ended");
}

/* Live */
function takeBars(data, message) {
  if (message.type === "gap") { load(); return; }
  const minutes = bars.get("1m");
  const touched = [];
  let closed = false;
  for (const sent of data.bars ?? []) {
    if (sent.s !== symbol) continue;
    const bar = normal(sent);
    const known = minutes.get(bar.at);
    if (known && !known.forming && !bar.forming && (bar.revision ?? 0) > (known.revision ?? 0) && known.revision !== null) revised.set(bar.at, bar.revision);
    if (!merge(minutes, bar)) continue;
    closed ||= !bar.forming;
    touched.push(bar.at);
  }
  if (!touched.length) return;
  showPrice();
  if (loaded) redraw(touched);
  painted(message);
  if (!loaded || !closed) return;
  drawMarks();
  clearTimeout(refreshing);
  refreshing = setTimeout(refresh, 1200);
}

let refreshing = 0;
function redraw(minutes) {
  let whole = false;
  for (const at of minutes) {
    const bar = fold(at);
    if (!bar) continue;
    bars.get(interval).set(bar.at, bar);
    if (regular && STEPS[interval] <= 1800 && !inRegular(bar.at)) continue;
    whole ||= !chart.update(bar);
  }
  if (whole) drawAll(false);
  else { drawCells(); read(); }
  freshTable();
}

// After a closed minute: the lines anew, days from the table, the ledger of gaps
async function refresh() {
  if (STEPS[interval] >= 86_400) await fetchBars(interval, { limit: 2 }).then(() => drawAll(false)).catch(() => null);
  await Promise.allSettled([fetchLines().then(fetchVwap), fetchGaps().then(drawCells)]);
}

function tableRow(bar) {
  const time = make("time", "", `${day(bar.at)} ${clock(bar.at)}`);
  time.dateTime = new Date(bar.at).toISOString();
  const head = make("th", "", time);
  head.scope = "row";
  const times = timesRevised(bar.at, bar.at + STEPS[interval] * 1000);
  const state = `${bar.forming ? "forming" : bar.final ? "settled" : "provisional"}${times ? `, revised ${times}×` : ""}`;
  return make("tr", "", head, ...[bar.o, bar.h, bar.l, bar.c].map((value) => make("td", "num", price(value))), make("td", "num", shares(bar.v)), make("td", "quiet", state));
}

// The table is written while it is seen; else only the words for who cannot see the chart, once a bar
let worded = 0;
function freshTable(force = false) {
  const all = ordered(interval);
  const last = all.findLast((bar) => !bar.forming);
  if (last && (force || worded !== last.at)) {
    worded = last.at;
    say(byId("chart-words"), `Candlestick chart of ${symbol}, bars of ${interval}; the last close is ${price(last.c)} in bar ${day(last.at)} ${clock(last.at)}. The bars stand in the table below.`);
  }
  if (byId("bars-table").hidden && !force) return;
  document.querySelector("#bars-table tbody").replaceChildren(...all.slice(-60).reverse().map(tableRow));
}

if (!asOf) {
  live.watch(`bars:${symbol}`, takeBars);
  live.watch(`quotes:${symbol}`, takeQuote);
  live.watch("patterns", (data, message) => {
    if (message.type === "gap") { fetchFound().catch(() => null); return; }
    const mine = (list) => (list ?? []).filter((one) => one.symbol === symbol);
    const fresh = mine(data.detections);
    const struck = mine(data.retracted);
    for (const one of [...fresh, ...struck.map((row) => ({ ...row, status: "retracted" }))]) keepFound(one);
    if (fresh.length + struck.length) listFound();
    if (fresh.length && message.type === "update") fetchFound().catch(() => null); // with what was measured
  });

  // Where no socket opens, the newest minutes come by asking
  setInterval(async () => {
    sayAge();
    sayQuoteAge();
    if (live.state !== "polling" && live.state !== "offline") return;
    if (Date.now() - live.since < 2 * POLL || document.hidden) return;
    const last = ordered("1m").findLast((bar) => !bar.forming);
    const answer = await ask(`/api/ticks/recent?symbol=${path}&limit=60${last ? `&since=${last.at}` : ""}`).catch(() => null);
    const fresh = (answer?.ticks ?? []).map((tick) => normal({ t: tick.timestamp, o: tick.open, h: tick.high, l: tick.low, c: tick.close, v: tick.volume, vw: null, final: false }));
    const taken = fresh.filter((bar) => merge(bars.get("1m"), bar));
    if (!taken.length) return;
    showPrice();
    if (loaded) redraw(taken.map((bar) => bar.at));
  }, POLL);
  setInterval(() => { if (shownAt === null && loaded) read(); }, 1000);
}

/* Detections */
const moment = (at) => (typeof at === "number" ? at : Date.parse(at));

function keepFound(one) {
  const whole = { ...found.get(one.id), ...one, at: Date.parse(one.timestamp) };
  const drawn = whole.detail?.geometry;
  const geometry = drawn && (drawn.points?.length || drawn.lines?.length) ? {
    level: drawn.level ?? null,
    points: (drawn.points ?? []).map((point) => ({ ...point, at: moment(point.at) })),
    lines: (drawn.lines ?? []).map((line) => ({ ...line, from: { ...line.from, at: moment(line.from.at) }, to: { ...line.to, at: moment(line.to.at) } })),
  } : null;
  const begin = geometry ? Math.min(...geometry.points.map((point) => point.at), ...geometry.lines.map((line) => line.from.at), whole.at) : whole.at;
  found.set(one.id, { ...whole, candles: whole.detail?.candles ?? 1, geometry, begin });
}

function listFound() {
  const all = [...found.values()].filter((one) => one.timeframe === interval).sort((one, other) => other.at - one.at || other.confidence - one.confidence).slice(0, 60);
  const table = byId("found");
  const focused = document.activeElement?.closest?.("#found tr")?.dataset.id;
  table.tBodies[0].replaceChildren(...all.map(foundRow));
  if (focused) table.querySelector(`tr[data-id="${focused}"] button`)?.focus({ preventScroll: true });
  table.hidden = !all.length;
  byId("no-found").hidden = all.length > 0;
  const struck = all.filter((one) => one.status === "retracted").length;
  say(byId("found-interval"), interval);
  say(byId("found-count"), String(all.length));
  say(byId("found-retracted"), struck ? `, of which ${struck} retracted` : "");
  if (all.length && (!chosen || (!chosenByHand && chosen.timeframe !== interval))) choose(all[0].id);
  else if (chosen) choose(chosen.id);
  drawMarks();
}

function foundRow(one) {
  const time = make("time", "", one.timeframe === "1d" ? day(one.at) : `${day(one.at)} ${clock(one.at)}`);
  time.dateTime = one.timestamp;
  const button = make("button", `plain${one.status === "retracted" ? " struck" : ""}`, arrow(one.direction), one.name);
  button.type = "button";
  const row = make("tr", `target${chosen?.id === one.id ? " cursor" : ""}`, make("td", "quiet", time), make("td", "", button), make("td", "num", one.confidence.toFixed(2)), make("td", "quiet wide", "Not studied yet"), make("td", "second", statusWords(one)));
  row.dataset.id = one.id;
  return row;
}

byId("found").addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-id]");
  if (row && event.target.closest("button")) show(Number(row.dataset.id));
});

function choose(id) {
  chosen = found.get(id) ?? null;
  for (const row of byId("found").tBodies[0].rows) row.classList.toggle("cursor", Number(row.dataset.id) === id);
  if (chosen) explain(chosen);
}

// Chosen by hand: on its own interval, its bars in sight, and in the address
async function show(id) {
  choose(id);
  if (!chosen) return;
  chosenByHand = true;
  if (interval !== chosen.timeframe && STEPS[chosen.timeframe]) await turnTo(chosen.timeframe);
  for (let pages = 0; pages < 6 && chosen.begin < (ordered(interval)[0]?.at ?? Infinity); pages += 1) {
    if (!await fetchOlder(interval)) break;
    if (pages === 5 || chosen.begin >= ordered(interval)[0].at) drawAll(false);
  }
  keep();
  drawMarks();
  chart?.reveal(chosen.begin, chosen.at);
}

/* Revisions, on demand */
const FIELDS = { o: "open", h: "high", l: "low", c: "close", v: "volume" };
async function showRevisions() {
  const list = byId("revisions-list");
  try {
    const { revisions } = await ask(`/api/revisions/?symbol=${path}&limit=100`);
    const known = revisions.filter((one) => !asOf || one.replaced_at <= asOf).map((one) => ({ ...one, at: Date.parse(one.t) }));
    if (!known.length) {
      list.replaceChildren(make("p", "quiet", `No stored minute of ${symbol} was replaced${asOf ? " by then" : ""}.`));
      return;
    }
    const oldest = Math.min(...known.map((one) => one.at));
    const { bars: now } = await ask(`/api/bars/${path}/?interval=1m&from=${oldest}&limit=5000${asOf ? `&as_of=${encodeURIComponent(asOf)}` : ""}`);
    const current = new Map(now.map((bar) => [Date.parse(bar.t), bar]));
    list.replaceChildren(make("ol", "revisions", ...known.map((one) => {
      const next = known.find((other) => other.at === one.at && other.revision === one.revision + 1) ?? current.get(one.at);
      const changes = next ? Object.entries(FIELDS).filter(([field]) => Number(one[field]) !== Number(next[field])).map(([field, words]) => `${words} ${field === "v" ? shares(one[field]) : price(one[field])} → ${field === "v" ? shares(next[field]) : price(next[field])}`) : [];
      const time = make("time", "", `${day(one.at)} ${clock(one.at)}`);
      time.dateTime = one.t;
      return make("li", "", make("p", "", time, ` ${changes.length ? changes.join(", ") : "same values, better source"}`), make("p", "small quiet", `${one.cause}, replaced ${day(one.replaced_at)} ${clock(one.replaced_at)}`));
    })));
    say(byId("revisions-count"), String(new Set(known.map((one) => one.at)).size));
  } catch {
    list.replaceChildren(make("p", "quiet", "The revisions did not arrive. Open this panel again to ask once more."));
  }
}

/* Controls */
async function turnTo(name, { push = true } = {}) {
  if (name === interval) return;
  interval = name;
  curves = {};
  shownAt = null;
  for (const button of byId("intervals").children) button.setAttribute("aria-pressed", String(button.dataset.interval === name));
  if (chosen && chosen.timeframe !== name) chosenByHand = false;
  if (asOf) { // what was found by then is the server's to say
    location.assign(address());
    return;
  }
  keep({ push });
  listFound();
  if (!bars.get(name).size) await fetchBars(name).catch(failed);
  if (interval !== name) return;
  drawAll(true);
  freshTable(true);
  await Promise.allSettled([fetchLines(), fetchFound()]);
}
byId("intervals").addEventListener("click", (event) => event.target.dataset.interval && turnTo(event.target.dataset.interval));
const order = Object.keys(STEPS);
keys.set("[", () => turnTo(order[Math.max(0, order.indexOf(interval) - 1)]));
keys.set("]", () => turnTo(order[Math.min(order.length - 1, order.indexOf(interval) + 1)]));
byId("hours").addEventListener("click", (event) => {
  if (!event.target.dataset.hours) return;
  regular = event.target.dataset.hours === "regular";
  for (const button of byId("hours").children) button.setAttribute("aria-pressed", String((button.dataset.hours === "regular") === regular));
  keep();
  drawAll(true);
});
byId("indicators").addEventListener("change", () => {
  say(byId("lines-count"), String(wantedLines().length));
  keep();
  fetchLines().catch(() => null);
});
byId("marks").addEventListener("click", (event) => {
  marksVisible = event.currentTarget.getAttribute("aria-pressed") !== "true";
  event.currentTarget.setAttribute("aria-pressed", String(marksVisible));
  keep();
  drawMarks();
});
byId("adjusted").addEventListener("click", (event) => {
  adjusted = !adjusted;
  event.currentTarget.setAttribute("aria-pressed", String(adjusted));
  keep();
  for (const known of bars.values()) known.clear();
  older.clear();
  load();
});
function opens(button, panel, opened) {
  byId(button).addEventListener("click", (event) => {
    const open = event.currentTarget.getAttribute("aria-expanded") !== "true";
    event.currentTarget.setAttribute("aria-expanded", String(open));
    byId(panel).hidden = !open;
    if (open) opened();
  });
}
opens("as-table", "bars-table", () => freshTable(true));
opens("revisions-open", "revisions", () => {
  showRevisions();
  byId("revisions").scrollIntoView({ block: "nearest" });
});
addEventListener("appearance", () => chart?.paint());

/* Start: the socket is asked already, now the stored bars */
let trying = 0;
function failed() {
  const empty = byId("chart-empty");
  empty.hidden = false;
  say(empty, "The bars did not arrive. What stands above is of the last answer; it is asked again every 3 s.");
  clearTimeout(trying);
  trying = setTimeout(load, 3000);
}

async function load() {
  try {
    await Promise.all(["1m", ...(interval === "1m" ? [] : [interval])].map((name) => fetchBars(name)));
  } catch {
    failed();
    return;
  }
  const fresh = !loaded;
  loaded = true;
  drawAll(fresh);
  showPrice();
  freshTable(true);
  await Promise.allSettled([fetchLines().then(fetchVwap), ...(asOf ? [] : [fetchFound(), fetchGaps().then(() => drawAll(false))])]);
}

await Promise.all([document.fonts.load('400 11px "Plex Sans"'), document.fonts.load('600 12px "Plex Sans"')]);
let paging = false;
chart = new PriceChart(byId("chart"), {
  hover(at) {
    shownAt = at !== null && bars.get(interval).has(at) ? at : null;
    read();
  },
  async moved(range) {
    requestAnimationFrame(drawCells);
    if (!loaded || paging || !range || range.from > 15 || !older.get(interval)) return;
    paging = true;
    if (await fetchOlder(interval)) {
      drawAll(false);
      await fetchLines().catch(() => null);
    }
    paging = false;
  },
});
takeGaps(start.gaps);
for (const one of start.found) keepFound(one);
const wanted = Number(new URLSearchParams(location.search).get("detection"));
if (found.size) listFound();
await load();
if (found.has(wanted)) await show(wanted);
