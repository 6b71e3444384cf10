// Every market page, kept fresh. After a survey the page asks the server for itself and takes the difference in place: one source of words
// and drawings, the server. Prices between surveys come from the socket. Order, scroll and focus stay with the reader.

import { byId, keys, live, make, replace, say } from "./frame.js";
import { age, change, clock, heat, price, tone } from "./words.js";

const LEAVE_AFTER = 3000;
const AT_MOST_EVERY = 5000; // surveys of several universes come one after the other
const ASK_EVERY = 75_000; // heals what no message announced
const main = byId("content");
const lede = () => main.querySelector("[data-survey]");
const fixed = () => lede()?.dataset.fixed !== undefined;

/* Prices in place */
const prices = new Map(); // symbol → { last, at: end of its minute in Unix ms }

function showPrice(element, quote) {
  const previous = Number(element.dataset.previous) || null;
  const cell = element.querySelector("[data-last]");
  if (cell) {
    const before = Number(cell.dataset.last);
    cell.dataset.last = quote.last;
    replace(cell, price(quote.last), before ? quote.last - before : 0);
  }
  const moved = element.querySelector("[data-live-change]");
  const tile = element.querySelector("[data-fill]");
  if (!previous || !(moved || tile)) return;
  const share = (quote.last / previous - 1) * 100;
  if (moved) {
    say(moved, share === null ? "–" : `${change(share)}${moved.dataset.unit ?? ""}`);
    if (moved.dataset.tint !== undefined) moved.dataset.tint = heat(share);
    else if (!tile) for (const side of ["up", "down", "quiet"]) moved.classList.toggle(side, tone(share) === side);
  }
  if (tile) tile.dataset.fill = heat(share);
}

function showPrices(after = 0) {
  for (const element of main.querySelectorAll("[data-symbol]")) {
    const quote = prices.get(element.dataset.symbol);
    if (quote && quote.at > after) showPrice(element, quote);
  }
}

const moving = new Map();
function take(bar) {
  const at = Date.parse(bar.t) + 60_000;
  const known = prices.get(bar.s);
  if (known && known.at > at) return false; // a revision of an older minute is not the last price
  prices.set(bar.s, { last: bar.c, at });
  return true;
}
function showMoved(symbols) {
  for (const element of main.querySelectorAll("[data-symbol]")) if (symbols.has(element.dataset.symbol)) showPrice(element, prices.get(element.dataset.symbol));
}
setInterval(() => {
  if (!moving.size || fixed()) return;
  const symbols = new Set([...moving.values()].filter(take).map((bar) => bar.s));
  moving.clear();
  showMoved(symbols);
}, 1000);
live.watch("bars", (data, message) => {
  if (message.type === "gap" || fixed()) return;
  const symbols = new Set();
  const since = Date.parse(lede()?.dataset.survey ?? "") || 0;
  for (const bar of data.bars ?? []) {
    if (Date.parse(bar.t) + 60_000 <= since) continue; // the survey knows it already
    if (bar.forming) moving.set(bar.s, bar);
    else if (take(bar)) symbols.add(bar.s);
  }
  showMoved(symbols);
});

/* The page asks for itself */
let asking = false;
let askedAt = Date.now();
let again = 0;
let refreshes = 0;
let incoming = 0; // of when the survey is that is being taken in
export const refreshed = new EventTarget();

export async function refresh() {
  if (asking || fixed() || document.hidden) return;
  clearTimeout(again);
  again = 0;
  asking = true;
  refreshes += 1;
  askedAt = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return; // signed out, or the server is away: the lamp says how old this is
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    takeIn(fresh);
  } catch {
    return; // the line is down; the next survey or the timer asks again
  } finally {
    asking = false;
  }
}

function soon() {
  const wait = Math.max(300 + Math.random() * 700, refreshes ? AT_MOST_EVERY - (Date.now() - askedAt) : 0);
  if (!again) again = setTimeout(refresh, wait);
}

function takeIn(fresh) {
  const next = fresh.getElementById("content");
  const before = lede()?.dataset.survey;
  const now = next?.querySelector("[data-survey]")?.dataset.survey;
  if (!next || now === undefined || now === before) return;
  if (fresh.body.dataset.page !== document.body.dataset.page) { location.reload(); return; } // the first survey brings the whole page
  incoming = Date.parse(now);
  morphChildren(main, next);
  const data = fresh.getElementById("initial");
  if (data && byId("initial")) byId("initial").textContent = data.textContent;
  showPrices(Date.parse(now));
  settle();
  refreshed.dispatchEvent(new Event("refreshed"));
}

// Make `from` like `to` with as few changes as there are differences; rows and groups with a key keep their element
function morph(from, to) {
  if (from.isEqualNode(to)) return;
  if (from.dataset?.last !== undefined && to.dataset?.last !== undefined) {
    const quote = prices.get(from.closest("[data-symbol]")?.dataset.symbol);
    if (quote && quote.at > incoming) return; // the socket was quicker than the survey
    replace(from, to.textContent, Number(to.dataset.last) - Number(from.dataset.last));
    from.dataset.last = to.dataset.last;
    return;
  }
  for (const { name, value } of [...to.attributes]) if (from.getAttribute(name) !== value && !kept(from, name)) from.setAttribute(name, value);
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !kept(from, name)) from.removeAttribute(name);
  if (from.matches("input, textarea")) return; // what is being typed stays
  if (from.dataset.rows !== undefined) morphRows(from, to);
  else morphChildren(from, to);
}

const OWN = { DETAILS: ["open"], TR: ["class"], BUTTON: ["hidden", "aria-pressed"] };
const kept = (element, name) => OWN[element.nodeName]?.includes(name) || element.id === "held" || element.id === "time-rule" || (name === "class" && element.classList.contains("tail"));

function morphChildren(from, to) {
  const old = [...from.childNodes];
  const wanted = [...to.childNodes];
  wanted.forEach((next, place) => {
    const now = old[place];
    if (!now) from.append(document.importNode(next, true));
    else if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName || now.dataset?.key !== next.dataset?.key) now.replaceWith(document.importNode(next, true));
    else if (now.nodeType === Node.TEXT_NODE) { if (now.data !== next.data) now.data = next.data; }
    else if (now.nodeType === Node.ELEMENT_NODE) morph(now, next);
  });
  for (const extra of old.slice(wanted.length)) extra.remove();
}

/* Order: the values are fresh at once, the places only when the reader is not in the table */
const wantedOrder = new WeakMap(); // tbody → keys in their new order
function morphRows(from, to) {
  const rows = new Map([...from.children].map((row) => [row.dataset.key, row]));
  const order = [];
  for (const next of [...to.children]) {
    const { key } = next.dataset;
    order.push(key);
    const now = rows.get(key);
    if (now) morph(now, next);
    else { const row = document.importNode(next, true); row.hidden = reading(); row.dataset.waits = ""; from.append(row); }
  }
  const still = new Set(order);
  for (const [key, row] of rows) if (!still.has(key)) { if (reading()) row.classList.add("gone"); else row.remove(); }
  wantedOrder.set(from, order);
}

const box = () => main.querySelector("[data-held-box]");
let inside = false;
let left = 0;
const reading = () => inside || Date.now() - left < LEAVE_AFTER;

function rank() {
  for (const body of main.querySelectorAll("[data-rows]")) {
    const order = wantedOrder.get(body);
    if (!order) continue;
    const rows = new Map([...body.children].map((row) => [row.dataset.key, row]));
    order.forEach((key, place) => {
      const row = rows.get(key);
      if (!row) return;
      row.hidden = false;
      delete row.dataset.waits;
      if (body.children[place] !== row) body.insertBefore(row, body.children[place]);
    });
    for (const row of [...body.children].slice(order.length)) row.remove();
    wantedOrder.delete(body);
  }
  if (byId("held")) byId("held").hidden = true;
}

function settle() {
  const held = byId("held");
  if (!box() || !reading()) { rank(); return; }
  const body = box().querySelector("[data-rows]");
  const order = wantedOrder.get(body) ?? [];
  const now = [...body.children].filter((row) => row.dataset.waits === undefined).map((row) => row.dataset.key);
  const astray = order.filter((key, place) => now[place] !== key);
  held.hidden = astray.length === 0;
  box().setAttribute("aria-busy", String(astray.length > 0));
  const first = order.findIndex((key, place) => now[place] !== key);
  const added = body.querySelectorAll("[data-waits]").length;
  say(held.querySelector("[data-held-words]"), astray.length ? `${astray.length} row${astray.length === 1 ? "" : "s"} would move${added ? `, ${added} would come` : ""}; ${order[first]} would stand at ${first + 1}.` : "");
}

// Listened for from outside: the table itself may be another one after a survey
function look() {
  const now = Boolean(box()?.matches(":hover") || box()?.contains(document.activeElement));
  if (inside && !now) left = Date.now();
  inside = now;
}
for (const name of ["pointerover", "pointerout", "focusin"]) main.addEventListener(name, look);
for (const name of ["pointerleave", "focusout"]) main.addEventListener(name, () => setTimeout(look));
main.addEventListener("click", (event) => event.target.closest?.("[data-rerank]") && rank());
keys.set("r", rank);
setInterval(() => { look(); if (byId("held") && !byId("held").hidden && !reading()) rank(); }, 500);

/* How old the survey is */
function sayLamps() {
  if (fixed()) return;
  for (const lamp of main.querySelectorAll("[data-survey-lamp]")) {
    lamp.dataset.page ??= lamp.dataset.state;
    lamp.dataset.state = live.state === "live" || live.state === "connecting" ? lamp.dataset.page : live.state;
  }
  const at = Date.parse(lede()?.dataset.survey ?? "");
  const provenance = main.querySelector(".lede .provenance");
  if (!at || !provenance || live.state === "live" || live.state === "connecting") { provenance?.querySelector(".offline")?.remove(); return; }
  const plate = provenance.querySelector(".offline") ?? make("span", "plate offline");
  say(plate, `${live.state}, survey ${age(Date.now() - at)} old`);
  if (!plate.isConnected) provenance.append(" ", plate);
}
live.addEventListener("change", () => { sayLamps(); if (live.state === "live") soon(); });
live.addEventListener("look", sayLamps);
live.watch("market", (data, message) => { if (message.type !== "snapshot" || lede()?.dataset.survey === "") soon(); });
setInterval(() => Date.now() - askedAt > ASK_EVERY && refresh(), 5000);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && Date.now() - askedAt > AT_MOST_EVERY && refresh());

/* Filters: a choice is an address */
for (const form of main.querySelectorAll("form[data-auto]")) {
  for (const button of form.querySelectorAll("button:not([type])")) button.hidden = true; // a choice sends itself, Enter sends a text
  form.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("submit", () => { for (const field of form.elements) if (field.name && !field.value) field.disabled = true; });
  addEventListener("pageshow", () => { for (const field of form.elements) field.disabled = false; });
}
keys.set("f", () => (byId("filter-first") ?? main.querySelector("form[data-auto] select"))?.focus());
keys.set("s", () => {
  const heads = [...main.querySelectorAll("thead a[data-sort]")].filter((head) => head.offsetParent);
  const at = heads.findIndex((head) => head.closest("th").getAttribute("aria-sort") !== "none");
  heads[(at + 1) % heads.length]?.click();
});
// A second key with Shift: the first order stays, the new one settles ties
main.addEventListener("click", (event) => {
  const head = event.target.closest?.("thead a[data-sort]");
  if (!head || !event.shiftKey) return;
  event.preventDefault();
  const now = new URL(location.href).searchParams.get("sort");
  const next = new URL(head.href);
  const added = next.searchParams.get("sort");
  if (now) next.searchParams.set("sort", [now.split(",")[0], added].join(","));
  location.assign(next);
});

/* Watchlists */
const watchOn = byId("watch-on") ? JSON.parse(byId("watch-on").textContent) : null;
function tell(title, text) {
  const toast = make("div", "toast", make("strong", "", title), make("span", "", text));
  byId("toasts").append(toast);
  setTimeout(() => toast.remove(), 6000);
}
if (watchOn) {
  keys.set("w", async () => {
    const row = main.querySelector("tr.cursor[data-symbol]") ?? main.querySelector("tr[data-symbol]:hover");
    if (!row) return;
    const body = JSON.stringify({ symbol: row.dataset.symbol });
    const token = document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
    const answer = await fetch(`/api/watchlists/${watchOn.id}/`, { method: "POST", body, headers: { "Content-Type": "application/json", "X-CSRFToken": token } }).catch(() => null);
    if (answer?.status === 201) tell(`${row.dataset.symbol} is watched`, `It stands at the end of ${(await answer.json()).name}.`);
    else if (answer?.status === 200) tell(`${row.dataset.symbol} is on the list already`, (await answer.json()).name);
    else tell(`${row.dataset.symbol} was not added`, "The server did not take it. Reload the page and try again.");
  });
}
main.addEventListener("change", (event) => {
  if (event.target.matches?.("input.note")) event.target.form.requestSubmit();
});
main.addEventListener("keydown", (event) => {
  if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
  const button = event.target.closest?.("tr")?.querySelector(`[value="${event.key === "ArrowUp" ? "up" : "down"}"]`);
  if (button) { event.preventDefault(); button.click(); }
});

/* The map walks with arrows */
main.addEventListener("keydown", (event) => {
  const tile = event.target.closest?.(".map-tile");
  if (!tile || !event.key.startsWith("Arrow")) return;
  event.preventDefault();
  const here = tile.getBoundingClientRect();
  const across = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
  const down = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
  let best = null;
  for (const other of tile.closest("svg").querySelectorAll(".map-tile")) {
    if (other === tile) continue;
    const box = other.getBoundingClientRect();
    const dx = box.x + box.width / 2 - here.x - here.width / 2;
    const dy = box.y + box.height / 2 - here.y - here.height / 2;
    if (dx * across + dy * down <= 2) continue;
    const far = Math.abs(dx * across + dy * down) + 2 * Math.abs(dx * down) + 2 * Math.abs(dy * across);
    if (!best || far < best.far) best = { far, other };
  }
  best?.other.focus();
});
sayLamps();
