// Why a detection was found: its shape, what followed such shapes, and each condition with what was measured and what it needs.

import { byId, draw, make } from "./frame.js";
import { change, clock, clockSeconds, day, price } from "./words.js";

const DIRECTIONS = { bullish: "Bullish", bearish: "Bearish", neutral: "Neutral" };
const RELATIONS = { ">=": "at least", "<=": "at most", ">": "more than", "<": "less than", "==": "exactly" };
const EVIDENCE = "Not studied yet";

export const statusWords = (one) => {
  if (one.status === "retracted") return `Retracted${one.status_at ? ` ${clock(one.status_at)}` : ""}, bar revised`;
  return one.status === "confirmed" ? "Confirmed" : "Standing";
};

const figure = (value) => {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  const places = Number.isInteger(value) ? 0 : size >= 100 ? 1 : size >= 0.1 ? 2 : 4;
  return `${value < 0 ? "\u2212" : ""}${size.toLocaleString("en-US", { minimumFractionDigits: Math.min(places, 2), maximumFractionDigits: places })}`;
};

const sign = (passed) => (passed
  ? draw("svg", { class: "ok", viewBox: "0 0 11 11", role: "img", "aria-label": "met" }, draw("path", { d: "m1.5 6 2.8 3L9.5 2" }))
  : draw("svg", { class: "not", viewBox: "0 0 13 13", role: "img", "aria-label": "not met" }, draw("rect", { class: "ground", width: 13, height: 13 }), draw("path", { d: "m4 4 5 5M9 4 4 9" })));

function head(text, ...rest) {
  return make("div", "head", make("h2", "", text), ...rest);
}

function columns(...names) {
  return make("thead", "", make("tr", "", ...names.map(([name, className]) => {
    const cell = make("th", className, name);
    cell.scope = "col";
    return cell;
  })));
}

const first = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function named(text) {
  const cell = make("th", "second", text);
  cell.scope = "row";
  return cell;
}

function conditions(all) {
  const met = all.filter((one) => one.passed).length;
  const rows = all.map((one) => {
    const needs = one.threshold === null || one.threshold === undefined ? "" : `${RELATIONS[one.relation] ?? one.relation} ${figure(one.threshold)}`;
    return make("tr", "", named(first(one.name)), make("td", "num", figure(one.measured)), make("td", "num quiet", needs), make("td", "num", sign(one.passed)));
  });
  const table = make("table", "table measures", columns(["Condition", ""], ["Measured", "num"], ["Needs", "num"], [make("span", "unseen", "Met"), "num"]), make("tbody", "", ...rows));
  const failed = all.filter((one) => !one.passed).map((one) => one.name.toLowerCase());
  const words = failed.length ? [make("p", "small quiet", `Not met: ${failed.join(", ")}. It is no part of the pattern's definition; it lowers the shape.`)] : [];
  return make("section", "panel", head("Why it was found", make("span", "provenance", `${met} of ${all.length} met`)), table, ...words);
}

// What the judge of candlesticks measured, in words: name, how it is said
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
  if (!rows.length) return null;
  const body = make("tbody", "", ...rows.map(([name, value]) => make("tr", "", named(name), make("td", "num", value))));
  return make("section", "panel", head("What was measured", make("span", "unit", "on its bars")), make("table", "table measures", body));
}

export function explain(one) {
  const heading = make("h2", "title", one.name);
  heading.id = "chosen-title";
  const judged = one.bar_revision !== undefined && one.timeframe === "1m" ? ` on bar revision ${one.bar_revision}` : "";
  const where = one.timeframe === "1d" ? day(one.at) : `bar ${clock(one.at)} of ${day(one.at)}`;
  const about = make("p", "about", `${DIRECTIONS[one.direction]}, ${one.timeframe}, ${where}. Found ${day(one.detection_timestamp)} ${clockSeconds(one.detection_timestamp)}${judged}.`);
  const bar = draw("svg", { class: "shape", viewBox: "0 0 66 6", preserveAspectRatio: "none", "aria-hidden": "true" }, draw("rect", { width: 66, height: 6 }), draw("rect", { class: "part", width: 66 * one.confidence, height: 6 }));
  const shape = make("div", "", make("p", "small quiet", "Shape"), make("p", "figure", one.confidence.toFixed(2)), bar, make("p", "small quiet", "how well it fits the drawing"));
  const evidence = make("div", "", make("p", "small quiet", "Evidence"), make("p", "verdict", EVIDENCE), make("p", "small quiet", "what followed such shapes is another question"));
  byId("chosen").replaceChildren(make("div", "title-line", heading, make("span", "state", statusWords(one).split(",")[0])), about, make("div", "pair", shape, evidence));
  for (const old of document.querySelectorAll(".measured")) old.remove();
  const detail = one.detail ?? {};
  const panels = [detail.conditions?.length ? conditions(detail.conditions) : measures(detail)].filter(Boolean);
  panels.forEach((panel) => panel.classList.add("measured"));
  if (panels.length) panels[0].id = "measured";
  byId("chosen").after(...panels);
}
