// The quadrants: one tail at a time under pointer or focus, and play through the tail's moments in steps.

import { byId, draw, keys, say } from "./frame.js";
import { refreshed } from "./boards.js";
import { clock, day } from "./words.js";

const STEP = 700;
const [WIDTH, HEIGHT] = [920, 560];
const chart = byId("quadrants");
const rule = byId("time-rule");
const slider = byId("moment");
const button = byId("play");
let { tails, moments, intraday } = JSON.parse(byId("initial").textContent);
let playing = 0;

if (chart) {
  if (moments.length > 1) { rule.hidden = false; button.hidden = false; }

  const groups = () => chart.querySelectorAll("[data-tail]");
  const choose = (key) => {
    for (const group of groups()) {
      group.classList.toggle("dim", key !== null && group.dataset.tail !== key);
      group.classList.toggle("chosen", group.dataset.tail === key);
    }
    for (const row of document.querySelectorAll("[data-choose]")) row.classList.toggle("cursor", row.dataset.choose === key);
  };
  chart.addEventListener("pointerover", (event) => choose(event.target.closest("[data-tail]")?.dataset.tail ?? null));
  chart.addEventListener("pointerleave", () => choose(null));
  for (const name of ["pointerover", "focusin"]) document.querySelector(".rotation-table")?.addEventListener(name, (event) => choose(event.target.closest("[data-choose]")?.dataset.choose ?? null));
  for (const name of ["pointerleave", "focusout"]) document.querySelector(".rotation-table")?.addEventListener(name, () => choose(null));

  const place = ([, ratio, momentum]) => {
    const [x, y] = [Number(chart.dataset.reachX), Number(chart.dataset.reachY)];
    return [((ratio + x) / (2 * x)) * WIDTH, ((y - momentum) / (2 * y)) * HEIGHT];
  };

  const show = (step) => {
    const at = Date.parse(moments[step]);
    for (const group of groups()) {
      const tail = (tails[group.dataset.tail] ?? []).filter(([moment]) => Date.parse(moment) <= at);
      group.toggleAttribute("hidden", !tail.length);
      if (!tail.length) continue;
      const places = tail.map(place);
      const count = Math.max(1, places.length - 1);
      const parts = places.slice(1).flatMap(([x, y], index) => {
        const [fromX, fromY] = places[index];
        const opacity = (0.2 + (0.7 * (index + 1)) / count).toFixed(2);
        return [draw("path", { d: `M${fromX.toFixed(1)} ${fromY.toFixed(1)}L${x.toFixed(1)} ${y.toFixed(1)}`, "stroke-width": (0.8 + (1.6 * (index + 1)) / count).toFixed(2), opacity }), draw("circle", { cx: fromX.toFixed(1), cy: fromY.toFixed(1), r: 1.8, opacity })];
      });
      group.querySelector(".steps").replaceChildren(...parts);
      const [x, y] = places.at(-1);
      const head = group.querySelector(".head");
      head.setAttribute("cx", x.toFixed(1));
      head.setAttribute("cy", y.toFixed(1));
      const label = group.querySelector("text");
      const left = x > WIDTH * 0.86;
      label.setAttribute("x", (left ? x - 9 : x + 9).toFixed(1));
      label.setAttribute("y", (y + 4).toFixed(1));
      label.setAttribute("text-anchor", left ? "end" : "start");
      group.classList.toggle("up", tail.at(-1)[1] >= 0);
      group.classList.toggle("down", tail.at(-1)[1] < 0);
    }
    slider.value = step;
    const last = step === moments.length - 1;
    slider.setAttribute("aria-valuetext", `${day(at)}${intraday ? ` ${clock(at)}` : ""}`);
    say(byId("moment-words"), `${day(at)}${intraday ? ` ${clock(at)}` : ""}${last ? ", newest" : ""}`);
  };

  const stop = () => { clearInterval(playing); playing = 0; button.firstChild.data = "Play "; };
  const play = () => {
    if (moments.length < 2) return;
    if (playing) { stop(); return; }
    if (Number(slider.value) >= moments.length - 1) show(0);
    button.firstChild.data = "Pause ";
    playing = setInterval(() => {
      const next = Number(slider.value) + 1;
      show(Math.min(next, moments.length - 1));
      if (next >= moments.length - 1) stop();
    }, STEP);
  };
  button.addEventListener("click", play);
  slider.addEventListener("input", () => { if (playing) stop(); show(Number(slider.value)); });
  keys.set(" ", play);
  refreshed.addEventListener("refreshed", () => {
    ({ tails, moments, intraday } = JSON.parse(byId("initial").textContent));
    slider.max = Math.max(0, moments.length - 1);
    if (!playing) show(moments.length - 1);
  });
}
