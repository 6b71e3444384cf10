// A page that the server renders stays fresh by asking for itself: parts marked data-fresh are replaced where they differ, nothing else moves.

import { live } from "./frame.js";

const EVERY = 5_000;
let asking = false;

export async function freshen({ focused = false } = {}) {
  if (asking || document.hidden || live.state === "ended") return;
  asking = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    if (!answer.ok) return; // the frame says that the line is lost; the values stay, dated
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-fresh]")) {
      const fresh = page.querySelector(`[data-fresh="${old.dataset.fresh}"]`);
      if (!fresh || old.innerHTML === fresh.innerHTML || (!focused && old.contains(document.activeElement))) continue;
      old.replaceChildren(...fresh.childNodes);
    }
    document.documentElement.dataset.fresh = String(Date.now());
  } catch { // no network: the same
  } finally {
    asking = false;
  }
}

setInterval(() => freshen(), EVERY);
document.addEventListener("visibilitychange", () => freshen());
live.addEventListener("change", () => live.state === "live" && freshen());
