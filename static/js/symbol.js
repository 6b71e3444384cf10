// One symbol: subscribes first, fetches second, merges by the bar's start; so nothing between the two is lost.

import { arrow, byId, draw, initial, keys, live, make, painted, replace, say } from "./frame.js";
import { PriceChart } from "./chart.js";
import { NONE, age, change, clock, clockSeconds, day, price, shares, tone, wall } from "./words.js";

const { symbol, previous, found: firstFound = [], revisions = {} } = initial();
const STEPS = { "1m": 60, "1d": 86_400 };
const BARS = 720;
const DRAWN = { ema_20: "EMA 20", sma_50: "SMA 50", vwap: "VWAP" };
const SAID = { rsi_14: "figure-rsi", rvol_20: "figure-rvol", vwap: "figure-vwap" };
const POLL = 2000;
const OLD = 3 * 60_000;

const bars = { "1m": new Map(), "1d": new Map() }; // start → bar
const indicators = {};
const found = new Map(); // id → detection
let interval = "1m";
let chart = null;
let chosen = null;
let marksVisible = true;
let shownTime = null;
let loaded = false;

/* Bars */
const normal = (bar) => ({ at: Date.parse(bar.t), o: bar.o, h: bar.h, l: bar.l, c: bar.c, v: bar.v, vw: bar.vw, final: bar.final, forming: bar.forming ?? false, revision: bar.revision ?? revisions[bar.t] ?? null });

// A closed bar replaces a forming one, never the other way; of two closed ones the higher revision stands
function merge(into, bar) {
  const known = into.get(bar.at);
  if (known && !known.forming && bar.forming) return false;
  if (known && !known.forming && !bar.forming && bar.revision !== null && known.revision !== null && bar.revision < known.revision) return false;
  if (known && bar.revision === null && !bar.forming) bar.revision = known.revision;
  into.set(bar.at, bar);
  return true;
}

const ordered = (name) => [...bars[name].values()].sort((one, other) => one.at - other.at);

async function ask(address) {
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

const path = encodeURIComponent(symbol);

async function fetchBars(name) {
  const { bars: page } = await ask(`/api/bars/${path}/?interval=${name}&limit=${name === "1m" ? BARS : 500}`);
  for (const bar of page) merge(bars[name], normal(bar));
}

async function fetchIndicator(name, limit) {
  const answer = await ask(`/api/indicators/${path}/?name=${name}&timeframe=1m&limit=${limit}`);
  const points = answer.values.map((one) => ({ at: Date.parse(one.timestamp), value: Number(one.value) }));
  const known = new Map((indicators[name] ?? []).map((point) => [point.at, point]));
  for (const point of points) known.set(point.at, point);
  indicators[name] = [...known.values()].sort((one, other) => one.at - other.at);
}

async function fetchIndicators(limit) {
  await Promise.allSettled([...new Set([...Object.keys(DRAWN), ...Object.keys(SAID)])].map((name) => fetchIndicator(name, limit)));
  for (const [name, id] of Object.entries(SAID)) {
    const last = indicators[name]?.at(-1);
    if (last) say(byId(id), name === "vwap" ? price(last.value) : last.value.toFixed(name === "rsi_14" ? 0 : 2));
  }
  drawLines();
}

async function fetchFound() {
  const { patterns } = await ask(`/api/patterns/?symbol=${path}&limit=100`);
  for (const one of patterns) keepFound(one);
  listFound();
}

/* The chart */
function drawLines() {
  if (!chart) return;
  for (const name of Object.keys(DRAWN)) chart.lines(name, interval === "1m" ? (indicators[name] ?? []).filter((point) => bars["1m"].has(point.at)) : []);
  readLines();
}

function drawMarks() {
  chart?.marks(interval === "1m" ? [...found.values()].filter((one) => one.timeframe === "1m") : [], { visible: marksVisible, chosen: chosen && interval === chosen.timeframe ? chosen : null });
}

function drawAll(fresh) {
  const all = ordered(interval);
  const empty = byId("chart-empty");
  empty.hidden = all.length > 0;
  say(empty, interval === "1m" ? `No minute of ${symbol} is stored yet. The first one appears a few seconds after its end.` : `No daily bar of ${symbol} is stored. \`import_history\` asks the feed for them.`);
  chart.show(all, { step: STEPS[interval], fresh });
  drawLines();
  drawMarks();
  drawCells();
  read();
}

function drawCells() {
  if (!chart) return;
  const svg = byId("cells");
  const counts = { settled: 0, provisional: 0, forming: 0, revised: 0, missing: 0 };
  const parts = [];
  for (const { bar, x, width } of chart.cells()) {
    const [left, wide] = [x + 0.5, Math.max(1, width - 1.5)];
    const state = bar === null ? "missing" : bar.forming ? "forming" : bar.final ? "settled" : "provisional";
    counts[state] += 1;
    const box = state === "provisional" ? { y: 5, height: 2 } : state === "forming" || state === "missing" ? { y: 2.5, height: 7 } : { y: 2, height: 8 };
    parts.push(draw("rect", { class: state, x: left, width: wide, ...box }));
    if (bar?.revision > 0) {
      counts.revised += 1;
      parts.push(draw("rect", { class: "revised", x: left + wide / 2 - 1, y: 0, width: 2, height: 12 }));
    }
  }
  svg.replaceChildren(...parts);
  const words = { settled: "settled", provisional: "provisional", forming: "forming", revised: "revised", missing: "no bar" };
  byId("legend").replaceChildren(...Object.entries(counts).filter(([, number]) => number).map(([state, number]) => {
    const key = draw("svg", { width: 12, height: 12, "aria-hidden": "true", class: "cells" });
    key.append(draw("rect", { class: state, x: state === "revised" ? 5 : 1, width: state === "revised" ? 2 : 10, ...(state === "provisional" ? { y: 5, height: 2 } : state === "revised" ? { y: 0, height: 12 } : { y: 2.5, height: 7 }) }));
    return make("span", "legend-key", key, `${words[state]} ${number}`);
  }));
}

function read() {
  const all = bars[interval];
  const at = shownTime ?? Math.max(...all.keys());
  const bar = all.get(at);
  const line = byId("readout");
  if (!bar) { line.textContent = "\u00a0"; return; }
  const label = (name, text) => [" ", make("i", "", name), ` ${text}`];
  const left = bar.at + 60_000 - Date.now();
  const state = bar.forming ? (left > 0 ? ` forming, ${age(left)} left` : " closing") : "";
  line.replaceChildren(make("b", "", interval), ` ${interval === "1d" ? day(bar.at) : clock(bar.at)}`, ...label("O", price(bar.o)), ...label("H", price(bar.h)), ...label("L", price(bar.l)), ...label("C", price(bar.c)), ...label("V", shares(bar.v)), make("i", "", state));
  readLines();
}

function readLines() {
  const at = shownTime;
  const classes = { ema_20: "line-a", sma_50: "line-b", vwap: "line-c" };
  const parts = interval === "1m" ? Object.entries(DRAWN).filter(([name]) => indicators[name]?.length && pressed(name)).map(([name, words]) => {
    const value = at === null ? indicators[name].at(-1).value : chart?.valueAt(name, at) ?? null;
    return make("span", classes[name], `${words} ${price(value)}`);
  }) : [];
  byId("readout-lines").replaceChildren(...(parts.length ? parts : ["\u00a0"]));
}

const pressed = (name) => document.querySelector(`[data-line="${name}"]`).getAttribute("aria-pressed") === "true";

/* The price */
let lastShown = 0;
let waitingPrice = 0;
function showPrice() {
  clearTimeout(waitingPrice);
  if (Date.now() - lastShown < 250) { waitingPrice = setTimeout(showPrice, 250); return; }
  lastShown = Date.now();
  const last = ordered("1m").at(-1);
  if (!last) return;
  const cell = byId("price");
  const before = Number(cell.dataset.value ?? last.c);
  cell.dataset.value = last.c;
  replace(cell, price(last.c), last.c - before);
  const moved = previous ? last.c - previous : null;
  const share = previous ? (last.c / previous - 1) * 100 : null;
  say(byId("difference"), change(moved));
  byId("difference").className = tone(share);
  say(byId("change"), share === null ? NONE : `${change(share)}%`);
  byId("change").className = tone(share);
  const closed = ordered("1m").findLast((bar) => !bar.forming);
  if (closed) say(byId("figure-volume"), shares(closed.v));
  sayAge();
}

function sayAge() {
  const last = Math.max(...bars["1m"].keys());
  const bar = bars["1m"].get(last);
  if (!bar) return;
  const old = Date.now() - last - 60_000;
  const when = Date.now() - last > 86_400_000 ? `${day(last)} ${clock(last)}` : clock(last);
  say(byId("price-age"), bar.forming ? `bar ${when} forming` : old > OLD ? `bar ${when}, ${age(old)} old` : `bar ${when}`);
  byId("price").classList.toggle("stale", old > OLD || live.state === "offline" || live.state === "stale");
}

/* Live */
function takeBars(data, message) {
  if (message.type === "gap") { load(); return; }
  let older = false;
  let newest = null;
  let closed = false;
  for (const sent of data.bars ?? []) {
    if (sent.s !== symbol) continue;
    const bar = normal(sent);
    if (!merge(bars["1m"], bar)) continue;
    closed ||= !bar.forming;
    if (loaded && interval === "1m" && !chart.update(bar)) older = true;
    newest = bar;
  }
  if (!newest) return;
  showPrice();
  painted(message);
  if (!loaded || interval !== "1m") return;
  if (older) drawAll(false);
  else { drawCells(); read(); }
  if (closed) {
    drawMarks();
    setTimeout(() => fetchIndicators(5), 1500); // the worker writes them a moment after the bar
    freshTable(newest);
  }
}

function freshTable(bar) {
  const body = document.querySelector("#bars-table tbody");
  if (bar.forming) return;
  const words = `${bar.final ? "settled" : "provisional"}${bar.revision ? `, revised ${bar.revision}×` : ""}`;
  const time = make("time", "", clock(bar.at));
  time.dateTime = new Date(bar.at).toISOString();
  const head = make("th", "", time);
  head.scope = "row";
  const row = make("tr", "", head, ...[bar.o, bar.h, bar.l, bar.c].map((value) => make("td", "num", price(value))), make("td", "num", shares(bar.v)), make("td", "quiet", words));
  const known = [...body.rows].find((one) => Date.parse(one.querySelector("time").dateTime) === bar.at);
  if (known) known.replaceWith(row);
  else body.prepend(row);
  say(byId("chart-words"), `Candlestick chart of ${symbol}, one bar a minute; the last close is ${price(bar.c)} in minute ${clock(bar.at)}. The bars stand in the table below.`);
}

live.watch(`bars:${symbol}`, takeBars);
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
  if (live.state !== "offline" || Date.now() - live.since < 2 * POLL || document.hidden) return;
  const last = ordered("1m").findLast((bar) => !bar.forming);
  const answer = await ask(`/api/ticks/recent?symbol=${path}&limit=60${last ? `&since=${last.at}` : ""}`).catch(() => null);
  for (const tick of answer?.ticks ?? []) merge(bars["1m"], normal({ t: tick.timestamp, o: tick.open, h: tick.high, l: tick.low, c: tick.close, v: tick.volume, vw: null, final: false }));
  if (!answer?.ticks.length) return;
  showPrice();
  if (loaded) drawAll(false);
}, POLL);
setInterval(() => { if (shownTime === null && loaded) read(); }, 1000);

/* Detections */
function keepFound(one) {
  const known = found.get(one.id);
  const whole = { ...known, ...one, at: Date.parse(one.timestamp) };
  found.set(one.id, { ...whole, candles: whole.detail?.candles ?? 1 });
}

function listFound() {
  const all = [...found.values()].sort((one, other) => other.at - one.at || other.confidence - one.confidence).slice(0, 60);
  const table = byId("found");
  const focused = document.activeElement?.closest?.("#found tr")?.dataset.id;
  table.tBodies[0].replaceChildren(...all.map(foundRow));
  if (focused) table.querySelector(`tr[data-id="${focused}"] button`)?.focus({ preventScroll: true });
  table.hidden = !all.length;
  byId("no-found").hidden = all.length > 0;
  const struck = all.filter((one) => one.status === "retracted").length;
  say(byId("found-count"), String(all.length));
  say(byId("found-retracted"), struck ? `, of which ${struck} retracted` : "");
  if (!chosen && all.length) choose(all[0].id, false);
  else if (chosen) choose(chosen.id, false);
  drawMarks();
}

const statusWords = (one) => (one.status === "retracted" ? `Retracted${one.status_at ? ` ${clock(one.status_at)}` : ""}, bar revised` : "Standing");

function foundRow(one) {
  const time = make("time", "", clock(one.at));
  time.dateTime = one.timestamp;
  const button = make("button", `plain${one.status === "retracted" ? " struck" : ""}`, arrow(one.direction), one.name);
  button.type = "button";
  const row = make("tr", `target${chosen?.id === one.id ? " cursor" : ""}`, make("td", "quiet", time), make("td", "quiet", one.timeframe), make("td", "", button), make("td", "num", one.confidence.toFixed(2)), make("td", "second", statusWords(one)));
  row.dataset.id = one.id;
  return row;
}

byId("found").addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-id]");
  if (row && event.target.closest("button")) choose(Number(row.dataset.id), true);
});

function choose(id, reveal) {
  chosen = found.get(id) ?? null;
  for (const row of byId("found").tBodies[0].rows) row.classList.toggle("cursor", Number(row.dataset.id) === id);
  if (!chosen) return;
  explain(chosen);
  if (!reveal) return;
  if (interval !== chosen.timeframe && STEPS[chosen.timeframe]) turnTo(chosen.timeframe);
  drawMarks();
  chart?.reveal(chosen.at);
}

const DIRECTIONS = { bullish: "Bullish", bearish: "Bearish", neutral: "Neutral" };

function explain(one) {
  const heading = make("h2", "title", one.name);
  heading.id = "chosen-title";
  const plate = make("span", "state", statusWords(one).split(",")[0]);
  const judged = one.bar_revision !== undefined ? ` on bar revision ${one.bar_revision}` : "";
  const about = make("p", "about", `${DIRECTIONS[one.direction]}, ${one.timeframe}, bar ${clock(one.at)} of ${day(one.at)}. Found ${clockSeconds(one.detection_timestamp)}${judged}.`);
  const bar = draw("svg", { class: "shape", viewBox: "0 0 66 6", preserveAspectRatio: "none", "aria-hidden": "true" }, draw("rect", { width: 66, height: 6 }), draw("rect", { class: "part", width: 66 * one.confidence, height: 6 }));
  const shape = make("div", "", make("p", "small quiet", "Shape"), make("p", "figure", one.confidence.toFixed(2)), bar, make("p", "small quiet", "how well it fits the drawing"));
  const evidence = make("div", "", make("p", "small quiet", "Evidence"), make("p", "said", "Not studied yet"), make("p", "small quiet", "what followed such shapes is another question"));
  const parts = [make("div", "title-line", heading, plate), about, make("div", "pair", shape, evidence)];
  byId("chosen").replaceChildren(...parts);
  byId("measured")?.remove();
  const rows = measures(one.detail ?? {});
  if (!rows.length) return;
  const head = make("div", "head", make("h2", "", "What was measured"), make("span", "unit", "on its bars"));
  const body = make("tbody", "", ...rows.map(([name, value]) => make("tr", "", make("td", "second", name), make("td", "num", value))));
  const panel = make("section", "panel", head, make("table", "table measures", body));
  panel.id = "measured";
  byId("chosen").after(panel);
}

// What the judge of shapes measured, in words: name, how it is said
const times = (value) => `${value.toFixed(1)}×`;
const MEASURES = {
  size: ["Span, of a usual bar", times],
  body: ["Open to close, of the span", (value) => `${Math.round(value * 100)}%`],
  drift: ["Drift before, usual ranges", change],
  volume: ["Volume, of the mean before", times],
  range: ["Usual range of a bar", price],
};

function measures(detail) {
  const rows = detail.trend ? [["Trend before", detail.trend]] : [];
  for (const [name, [words, said]] of Object.entries(MEASURES)) {
    const value = detail.measures?.[name];
    if (value !== undefined) rows.push([words, value === null ? "too few bars" : said(value)]);
  }
  if (detail.grade) rows.push(["TA-Lib\u2019s grade", String(Math.abs(detail.grade))]);
  if (detail.bars) rows.push(["Bars looked at", String(detail.bars)]);
  return rows;
}

/* Controls */
async function turnTo(name) {
  interval = name;
  for (const button of byId("intervals").children) button.setAttribute("aria-pressed", String(button.dataset.interval === name));
  for (const button of byId("indicators").children) button.disabled = name !== "1m";
  if (!bars[name].size) await fetchBars(name).catch(failed);
  drawAll(true);
}
byId("intervals").addEventListener("click", (event) => event.target.dataset.interval && turnTo(event.target.dataset.interval));
const order = Object.keys(STEPS);
keys.set("[", () => turnTo(order[Math.max(0, order.indexOf(interval) - 1)]));
keys.set("]", () => turnTo(order[Math.min(order.length - 1, order.indexOf(interval) + 1)]));
byId("indicators").addEventListener("click", (event) => {
  const name = event.target.dataset.line;
  if (!name) return;
  const on = event.target.getAttribute("aria-pressed") !== "true";
  event.target.setAttribute("aria-pressed", String(on));
  chart?.toggle(name, on);
  readLines();
});
byId("marks").addEventListener("click", (event) => {
  marksVisible = event.currentTarget.getAttribute("aria-pressed") !== "true";
  event.currentTarget.setAttribute("aria-pressed", String(marksVisible));
  drawMarks();
});
byId("as-table").addEventListener("click", (event) => {
  const open = event.currentTarget.getAttribute("aria-expanded") !== "true";
  event.currentTarget.setAttribute("aria-expanded", String(open));
  event.currentTarget.setAttribute("aria-pressed", String(open));
  byId("bars-table").hidden = !open;
});
addEventListener("appearance", () => chart?.paint());

/* Start: the socket is asked already, now the stored bars */
function failed() {
  const empty = byId("chart-empty");
  empty.hidden = false;
  empty.textContent = "The bars did not arrive. What stands above is of the last answer; it is asked again every 5 s.";
  setTimeout(load, 5000);
}

async function load() {
  try {
    await fetchBars("1m");
  } catch {
    failed();
    return;
  }
  loaded = true;
  drawAll(true);
  showPrice();
  await Promise.allSettled([fetchIndicators(BARS), fetchFound()]);
}

await Promise.all([document.fonts.load('400 11px "Plex Sans"'), document.fonts.load('600 12px "Plex Sans"')]);
chart = new PriceChart(byId("chart"), {
  hover(time) {
    const all = ordered(interval);
    shownTime = time === null ? null : all.find((bar) => wall(bar.at) === time)?.at ?? null;
    read();
  },
  moved: () => requestAnimationFrame(drawCells),
});
for (const one of firstFound) keepFound(one);
if (found.size) listFound();
await load();
