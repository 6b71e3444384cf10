// Operations: fresh every few seconds; who may, starts and cancels jobs by the same REST that programs use.

import { byId, say } from "./frame.js";
import { freshen } from "./fresh.js";

const token = () => document.querySelector("[name=csrfmiddlewaretoken]").value;

async function tell(method, address, body) {
  const headers = { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": token() };
  const answer = await fetch(address, { method, headers, body: body && JSON.stringify(body) }).catch(() => null);
  const said = await answer?.json().catch(() => null);
  if (answer?.ok) return { ok: true, said };
  return { ok: false, words: said?.detail ?? "No answer came. Try again." };
}

byId("job-form")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { ok, said, words } = await tell("POST", "/api/jobs/", { kind: event.target.elements.kind.value });
  say(byId("job-answer"), ok ? `Job ${said.id} waits for its turn.` : words);
  if (ok) freshen({ focused: true });
});
byId("jobs").addEventListener("click", async (event) => {
  const number = event.target.dataset?.cancel;
  if (!number) return;
  const { ok, words } = await tell("DELETE", `/api/jobs/${number}/`);
  say(byId("job-answer"), ok ? `Job ${number} is cancelled at its next step.` : words);
  freshen({ focused: true });
});
