// How numbers and times are said; the server says the same in dashboards/templatetags/wording.py.

const MINUS = "\u2212";
export const NONE = "\u2013";
const ZONE = "America/New_York";
const two = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const four = new Intl.NumberFormat("en-US", { minimumFractionDigits: 4, maximumFractionDigits: 4 });
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const part = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: ZONE, hourCycle: "h23", ...options });
const minutes = part({ hour: "2-digit", minute: "2-digit" });
const seconds = part({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dates = part({ day: "numeric", month: "short" });
const own = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", day: "numeric", month: "short", timeZoneName: "short" });

const known = (value) => value !== null && value !== undefined && value !== "" && !Number.isNaN(Number(value));

export const price = (value) => (!known(value) ? NONE : Math.abs(value) < 1 ? four.format(value) : two.format(value));
export const count = (value) => (known(value) ? whole.format(value) : NONE);

export function change(value) {
  if (!known(value)) return NONE;
  const text = Math.abs(value).toFixed(2);
  return Number(text) === 0 ? "0.00" : (value > 0 ? "+" : MINUS) + text;
}

export function points(value) {
  const rounded = Math.round(value);
  return rounded === 0 ? "0" : (rounded > 0 ? "+" : MINUS) + Math.abs(rounded);
}

export const tone = (value) => (!known(value) || Number(Math.abs(value).toFixed(2)) === 0 ? "quiet" : value > 0 ? "up" : "down");

const STEPS = [0.25, 0.75, 1.5, 2.5];
export function heat(value) {
  if (!known(value)) return "";
  const step = STEPS.filter((limit) => Math.abs(value) >= limit).length;
  return step === 0 ? "0" : (value > 0 ? "p" : "n") + step;
}

export function shares(value) {
  if (!known(value)) return NONE;
  if (value >= 950_000) return `${two.format(value / 1e6)} M`;
  return value >= 10_000 ? `${Math.round(value / 1e3)} K` : whole.format(value);
}

export const clock = (moment) => minutes.format(new Date(moment));
export const clockSeconds = (moment) => seconds.format(new Date(moment));
export const day = (moment) => dates.format(new Date(moment));
export const inOwnZone = (moment) => own.format(new Date(moment));

export function age(milliseconds) {
  const length = Math.max(0, Math.floor(milliseconds / 1000));
  if (length < 3600) return `${Math.floor(length / 60)}:${String(length % 60).padStart(2, "0")}`;
  return length < 86_400 ? `${Math.floor(length / 3600)} h` : `${Math.floor(length / 86_400)} d`;
}

// New York's wall time as if it were UTC, in seconds: the chart knows no time zone
const wallParts = part({ year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" });
const wallCache = new Map();
export function wall(moment) {
  const at = new Date(moment);
  const hour = Math.floor(at.getTime() / 3_600_000);
  if (!wallCache.has(hour)) {
    const said = Object.fromEntries(wallParts.formatToParts(new Date(hour * 3_600_000)).map(({ type, value }) => [type, Number(value)]));
    wallCache.set(hour, Date.UTC(said.year, said.month - 1, said.day, said.hour, said.minute, said.second) - hour * 3_600_000);
  }
  return (at.getTime() + wallCache.get(hour)) / 1000;
}

// [start, end) in Unix ms of the bar of so many seconds that holds a moment: up to an hour by the clock of UTC, four hours by New York's
export function bucket(moment, seconds) {
  const at = new Date(moment).getTime();
  const length = seconds * 1000;
  if (seconds <= 3600) {
    const from = at - (at % length);
    return [from, from + length];
  }
  const shift = wall(at) * 1000 - at;
  const from = at + shift - ((at + shift) % length) - shift;
  return [from, from + length];
}
