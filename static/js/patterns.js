// The list of detections: what is retracted is struck through in place, what is new waits behind a count.

import { byId, live, say } from "./frame.js";
import { clock } from "./words.js";

const form = byId("filters");
const newest = JSON.parse(byId("first-page").textContent);
const shown = new Set([...document.querySelectorAll("#patterns-table tr[data-id]")].map((row) => Number(row.dataset.id)));
const waiting = new Set();

function wanted(one) {
  const asked = Object.fromEntries(new FormData(form));
  return (!asked.symbol || one.symbol === asked.symbol) && (!asked.pattern || one.pattern_type === asked.pattern) && (!asked.interval || one.timeframe === asked.interval)
    && (!asked.direction || one.direction === asked.direction) && (!asked.shape || one.confidence >= Number(asked.shape)) && (!asked.status || (one.status ?? "standing") === asked.status)
    && !asked.sector; // the message does not know the sector: such a list is fresh when it is asked again
}

live.watch("patterns", (data, message) => {
  for (const one of data.retracted ?? []) {
    const row = document.querySelector(`#patterns-table tr[data-id="${one.id}"]`);
    row?.querySelector("[data-name]").classList.add("struck");
    say(row?.querySelector("[data-status]"), `Retracted ${clock(one.status_at ?? message.at)}`);
  }
  if (!newest) return;
  const last = Math.max(0, ...shown);
  for (const one of data.detections ?? []) if (one.id > last && wanted(one)) waiting.add(one.id);
  const button = byId("newcomers");
  button.hidden = waiting.size === 0;
  say(button, `${waiting.size} new, show`);
});
byId("newcomers").addEventListener("click", () => location.reload());
for (const choice of form.querySelectorAll("select")) choice.addEventListener("change", () => form.requestSubmit());
form.addEventListener("submit", () => {
  for (const field of form.elements) if (field.name && !field.value) field.disabled = true; // an address of what was chosen only
});
addEventListener("pageshow", () => { for (const field of form.elements) field.disabled = false; });
