// The door: the day as 280 lines drawn from the clock alone. No market data stands before the login.

const SVG = "http://www.w3.org/2000/svg";
const figure = document.getElementById("day-figure");
const LINES = 280;
const [WIDTH, BASE] = [840, 480];

function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  figure.append(element);
}

function newYorkMinute() {
  const parts = new Intl.DateTimeFormat("en-GB", { timeZone: "America/New_York", hour: "numeric", minute: "numeric", hourCycle: "h23" }).formatToParts(new Date());
  const of = (type) => Number(parts.find((part) => part.type === type).value);
  return of("hour") * 60 + of("minute");
}

// The usual shape of a day's volume, a U from the opening to the closing auction; the jitter is a fixed function of the line's number
function height(share) {
  const minute = 240 + share * 960;
  const noise = Math.abs(Math.sin(share * 9176.3) * 43758.5453) % 1;
  if (minute < 570) return 8 + 36 * Math.exp((minute - 570) / 55) + 6 * noise;
  if (minute < 960) {
    const place = (minute - 570) / 390;
    return 105 + 340 * Math.exp(-place * 9) + 190 * Math.exp((place - 1) * 11) + 60 * noise;
  }
  return 8 + 45 * Math.exp((960 - minute) / 50) + 5 * noise;
}

function render() {
  figure.replaceChildren();
  const now = newYorkMinute();
  const at = Math.min(1, Math.max(0, (now - 240) / 960));
  for (let line = 0; line < LINES; line += 1) {
    const share = line / (LINES - 1);
    const tall = height(share);
    draw("rect", { class: share <= at ? "gone" : "ahead", x: share * (WIDTH - 1.2), y: BASE - tall, width: 1.2, height: tall });
  }
  draw("rect", { class: "axis", x: 0, y: BASE, width: WIDTH, height: 1 });
  const hour = `${String(Math.floor(now / 60)).padStart(2, "0")}:${String(now % 60).padStart(2, "0")} ET`;
  for (const [minute, words, anchor] of [[240, "04:00", "start"], [570, "09:30", "middle"], [960, "16:00", "middle"], [1200, "20:00", "end"]]) {
    const x = ((minute - 240) / 960) * WIDTH;
    draw("rect", { class: "axis", x: Math.min(WIDTH - 1, x), y: BASE, width: 1, height: 6 });
    draw("text", { x, y: BASE + 20, "text-anchor": anchor }, words);
  }
  draw("rect", { class: "now", x: at * (WIDTH - 2), y: 0, width: 2, height: BASE + 12 });
  draw("text", { class: "here", x: Math.min(WIDTH - 26, Math.max(26, at * WIDTH)), y: BASE + 36, "text-anchor": "middle" }, hour);
}

render();
setInterval(render, 60_000);
