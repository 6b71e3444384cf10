// The overview, kept fresh: prices in place, the order held while the reader is inside the table.

import { arrow, byId, live, make, page, painted, replace, say, symbolPage, keys, initial } from "./frame.js";
import { change, clock, heat, price, shares, tone } from "./words.js";

const LEAVE_AFTER = 3000;
const previous = initial().closes ?? {};
const quotes = new Map(); // symbol → { last, change, volume, at }
const rows = new Map();
const tiles = new Map();
const indices = new Map();
const table = byId("market");

for (const row of table?.tBodies[0].rows ?? []) {
  const { symbol, last, change: moved, volume, at } = row.dataset;
  const number = (text) => (text === "" ? null : Number(text));
  quotes.set(symbol, { last: number(last), change: number(moved), volume: number(volume), at: at ? Date.parse(at) : null });
  rows.set(symbol, row);
}
for (const tile of document.querySelectorAll(".tile")) tiles.set(tile.dataset.symbol, tile);
for (const index of document.querySelectorAll(".index")) indices.set(index.dataset.symbol, index);

function show(symbol, quote, before) {
  const difference = quote.last - (before ?? quote.last);
  const row = rows.get(symbol);
  replace(row.querySelector("[data-last]"), price(quote.last), difference);
  const moved = row.querySelector("td[data-change]");
  say(moved, change(quote.change));
  moved.className = `num ${tone(quote.change)}`;
  say(row.querySelector("td[data-volume]"), shares(quote.volume));
  say(row.querySelector("td[data-at]"), quote.at === null ? "–" : clock(quote.at));
  drawBar(row.querySelector("[data-bar]"), quote.change);
  const tile = tiles.get(symbol);
  say(tile.querySelector("[data-change]"), change(quote.change));
  tile.dataset.heat = heat(quote.change);
  const index = indices.get(symbol);
  if (!index) return;
  replace(index.querySelector("[data-last]"), price(quote.last), difference);
  const word = index.querySelector("[data-change]");
  say(word, quote.change === null ? "–" : `${change(quote.change)}%`);
  word.className = tone(quote.change);
}

function drawBar(bar, moved) {
  const direction = tone(moved);
  const width = direction === "quiet" ? 0 : Math.min(44, Math.abs(moved) * 14);
  bar.setAttribute("width", width.toFixed(1));
  bar.setAttribute("x", direction === "down" ? (45 - width).toFixed(1) : "47");
  bar.setAttribute("class", direction === "up" ? "rise" : "fall");
}

function take(symbol, bar) {
  const quote = quotes.get(symbol);
  if (!quote) return;
  const at = Date.parse(bar.t);
  if (quote.at !== null && at < quote.at) return; // a revision of an older minute is not the last price
  const before = quote.last;
  quote.last = bar.c;
  quote.change = previous[symbol] ? (bar.c / previous[symbol] - 1) * 100 : null;
  if (!bar.forming) {
    quote.volume = bar.v;
    quote.at = at;
  }
  show(symbol, quote, before);
}

// Forming bars move at most once a second; a closed one stands at once
const moving = new Map();
setInterval(() => {
  for (const [symbol, bar] of moving) take(symbol, bar);
  if (moving.size) summary();
  moving.clear();
}, 1000);

live.watch("bars", (data, message) => {
  if (message.type === "gap") return; // a snapshot follows
  let closed = false;
  for (const bar of data.bars ?? []) {
    if (bar.forming) moving.set(bar.s, bar);
    else {
      if (moving.get(bar.s)?.t <= bar.t) moving.delete(bar.s);
      take(bar.s, bar);
      closed = true;
    }
  }
  if (!closed) return;
  summary();
  painted(message);
  setTimeout(settle, 100); // after the values stand
});

function summary() {
  const all = [...quotes.values()];
  const sides = all.map((quote) => (quote.change === null ? "none" : tone(quote.change)));
  const sum = (side) => sides.filter((one) => one === side).length;
  const [up, flat, down] = [sum("up"), sum("quiet"), sum("down")];
  const newest = all.reduce((found, quote) => Math.max(found, quote.at ?? 0), 0);
  if (!newest) return;
  const covered = all.filter((quote) => quote.at === newest).length;
  const said = `${covered} of ${all.length}`;
  say(byId("lede-first"), `${said} symbols have a bar of minute ${clock(newest)}.`);
  if (up || down || flat) say(byId("lede-second"), `${up} up, ${down} down${flat ? `, ${flat} unchanged` : ""} against the last daily close.`);
  say(byId("lede-at"), clock(newest));
  say(byId("lede-of"), said);
  for (const element of document.querySelectorAll("[data-newest]")) say(element, clock(newest));
  for (const element of document.querySelectorAll("[data-coverage]")) say(element, said);
  say(byId("moves-up"), `${up} up`);
  say(byId("moves-flat"), `${flat} unchanged`);
  say(byId("moves-down"), `${down} down`);
  const of = up + flat + down || 1;
  const [rise, fall] = document.querySelectorAll(".balance rect");
  rise.setAttribute("width", `${(100 * up) / of}%`);
  fall.setAttribute("width", `${(100 * down) / of}%`);
  fall.setAttribute("x", `${100 - (100 * down) / of}%`);
  for (const sector of document.querySelectorAll("[data-sector]")) {
    const members = [...sector.nextElementSibling.children].map((tile) => quotes.get(tile.dataset.symbol));
    say(sector, `${members.filter((quote) => tone(quote.change) === "up").length} of ${members.filter((quote) => quote.change !== null).length} up`);
  }
}

/* Order: kept in the address, held while pointer or focus is inside */
const asked = new URLSearchParams(location.search);
let order = { by: asked.get("sort") ?? "change", down: asked.get("down") !== "0" };
let left = 0;
let inside = false;
const TEXT = new Set(["symbol", "name", "sector"]);

function value(row, by) {
  if (by === "symbol") return row.dataset.symbol;
  if (by === "name") return row.cells[1].textContent;
  if (by === "sector") return row.cells[2].textContent;
  return quotes.get(row.dataset.symbol)[by] ?? -Infinity;
}

function sorted() {
  const sign = order.down ? -1 : 1;
  return [...rows.values()].sort((one, other) => {
    const [a, b] = [value(one, order.by), value(other, order.by)];
    const compared = TEXT.has(order.by) ? a.localeCompare(b) : a - b;
    return (Number.isNaN(compared) ? 0 : sign * compared) || one.dataset.symbol.localeCompare(other.dataset.symbol);
  });
}

function rank() {
  const wanted = sorted();
  const body = table.tBodies[0];
  wanted.forEach((row, place) => body.rows[place] !== row && body.insertBefore(row, body.rows[place]));
  byId("held").hidden = true;
  for (const button of table.querySelectorAll("[data-sort]")) {
    button.closest("th").setAttribute("aria-sort", button.dataset.sort !== order.by ? "none" : order.down ? "descending" : "ascending");
  }
}

function settle() {
  if (!table) return;
  if (!inside && Date.now() - left > LEAVE_AFTER) {
    rank();
    return;
  }
  const body = table.tBodies[0];
  const astray = sorted().filter((row, place) => body.rows[place] !== row).length;
  byId("held").hidden = astray === 0;
  say(byId("held"), `${astray} rows would move. Re-rank: R`);
}

if (table) {
  const enter = () => { inside = true; };
  const leave = () => { inside = table.matches(":hover") || table.contains(document.activeElement); if (!inside) left = Date.now(); };
  for (const name of ["pointerenter", "focusin"]) table.addEventListener(name, enter);
  for (const name of ["pointerleave", "focusout"]) table.addEventListener(name, () => setTimeout(leave));
  for (const button of table.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const by = button.dataset.sort;
      order = order.by === by ? { by, down: !order.down } : { by, down: !TEXT.has(by) };
      history.replaceState(null, "", `?sort=${by}&down=${order.down ? 1 : 0}`);
      rank();
    });
  }
  keys.set("r", rank);
  if (asked.has("sort")) rank();
  setInterval(() => !inside && !byId("held").hidden && Date.now() - left > LEAVE_AFTER && rank(), 1000);
}

/* Detections: one row a bar, its best shape, and how many more */
const list = byId("found");
const told = new Set([...(list?.children ?? [])].map((row) => row.dataset.id));

live.watch("patterns", (data, message) => {
  if (!list || message.type === "gap") return;
  if (message.type === "snapshot" && list.children.length) {
    for (const one of data.detections ?? []) told.add(String(one.id)); // the server's rows already count these
  } else {
    for (const one of data.detections ?? []) addFound(one);
  }
  for (const one of data.retracted ?? []) list.querySelector(`[data-id="${one.id}"] .what span`)?.classList.add("struck");
  arrange();
});

function addFound(one) {
  if (told.has(String(one.id))) return;
  told.add(String(one.id));
  const key = `${one.symbol} ${one.timeframe} ${new Date(one.timestamp).toISOString()}`;
  const known = rowsByKey().get(key);
  const more = known ? Number(known.dataset.more) + 1 : 0;
  if (known && Number(known.dataset.confidence) >= one.confidence) {
    known.dataset.more = more;
    known.querySelector(".quiet").textContent = `${one.timeframe}, ${more} more`;
    return;
  }
  const fresh = item(one, key, more);
  if (known) known.replaceWith(fresh);
  else list.append(fresh);
}

const rowsByKey = () => new Map([...list.children].map((row) => {
  const [symbol, timeframe, at] = row.dataset.key.split(" ");
  return [`${symbol} ${timeframe} ${new Date(at).toISOString()}`, row];
}));

function arrange() {
  const time = (row) => Date.parse(row.querySelector("time").dateTime);
  const ordered = [...list.children].sort((one, other) => time(other) - time(one) || other.dataset.confidence - one.dataset.confidence);
  ordered.slice(0, Number(list.dataset.limit)).forEach((row, place) => list.children[place] !== row && list.insertBefore(row, list.children[place]));
  while (list.children.length > Number(list.dataset.limit)) list.lastElementChild.remove();
  byId("no-found").hidden = list.children.length > 0;
}

function item(one, key, more) {
  const time = make("time", "", clock(one.timestamp));
  time.dateTime = one.timestamp;
  const who = make("a", "who", one.symbol);
  who.href = symbolPage(one.symbol);
  const row = make("li", "found", time, who, make("span", "what", arrow(one.direction), make("span", "", one.name), " ", make("span", "quiet", more ? `${one.timeframe}, ${more} more` : one.timeframe)), make("span", "value", one.confidence.toFixed(2)));
  Object.assign(row.dataset, { id: one.id, key, more, confidence: one.confidence });
  return row;
}

// The first minute of a fresh installation: the page as a whole is made by the server. Only a minute stored from now on counts, never the
// snapshot, or a page that the server cannot fill would be loaded again without end
if (!byId("lede-at")) {
  live.watch("bars", (data, message) => message.type === "update" && (data.bars ?? []).some((bar) => !bar.forming) && location.reload());
}
