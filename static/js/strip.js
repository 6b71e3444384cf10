// The strip under the chart, one cell a bar: what is settled, may still change, was revised, was repaired, is missing.

import { byId, draw, make } from "./frame.js";

const WORDS = { settled: "settled", provisional: "provisional", forming: "forming", revised: "revised", repaired: "repaired", missing: "missing", quiet: "no trade" };
const BOX = { settled: { y: 2, height: 8 }, provisional: { y: 5, height: 2 }, forming: { y: 2.5, height: 7 }, missing: { y: 2, height: 8 }, repaired: { y: 2, height: 8 }, quiet: { y: 5, height: 2 } };

function stateOf(bar, within) {
  if (bar === null) return within?.open ? "missing" : "quiet";
  if (bar.forming) return "forming";
  if (within && !within.open) return "repaired";
  return bar.final ? "settled" : "provisional";
}

// `cells` of the chart, `step` in ms; `gaps` of the symbol; `revised(at, end)` says how often minutes inside were replaced
export function drawStrip(cells, step, { gaps, revised }) {
  const counts = Object.fromEntries(Object.keys(WORDS).map((state) => [state, 0]));
  const parts = [];
  for (const { at, bar, x, width } of cells) {
    const state = stateOf(bar, gaps.find((gap) => gap.from < at + step && gap.to > at));
    const [left, wide] = [x + 0.5, Math.max(1, width - 1.5)];
    counts[state] += 1;
    parts.push(draw("rect", { class: state, ...(state === "quiet" ? { x: left + wide / 2 - 1, width: 2 } : { x: left, width: wide }), ...BOX[state] }));
    if (bar && revised(at, at + step)) {
      counts.revised += 1;
      parts.push(draw("rect", { class: "revised", x: left + wide / 2 - 1, y: 0, width: 2, height: 12 }));
    }
  }
  byId("cells").replaceChildren(...parts);
  byId("legend").replaceChildren(...Object.entries(counts).filter(([, number]) => number).map(([state, number]) => {
    const key = draw("svg", { width: 12, height: 12, "aria-hidden": "true", class: "cells" });
    key.append(draw("rect", { class: state, ...(state === "revised" ? { x: 5, y: 0, width: 2, height: 12 } : state === "quiet" ? { x: 5, width: 2, ...BOX.quiet } : { x: 1, width: 10, ...BOX[state] }) }));
    return make("span", "legend-key", key, `${WORDS[state]} ${number}`);
  }));
}
