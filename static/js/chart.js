// The price chart: candles, volume, indicator lines, and what is drawn on them in pencil. Knows no socket and no address.

import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, LineSeries, LineStyle, createChart,
} from "../vendor/lightweight-charts/lightweight-charts.standalone.production.mjs";
import { Ground, Pencil } from "./pencil.js";
import { price, wall } from "./words.js";

// Value → token, style, pane. The pane below the prices has its own scale
const LINES = {
  ema_20: ["--line-a", LineStyle.Solid, 0], sma_50: ["--line-b", LineStyle.Solid, 0], vwap: ["--line-c", LineStyle.Dashed, 0],
  bb_upper: ["--edge", LineStyle.Solid, 0], bb_lower: ["--edge", LineStyle.Solid, 0], rsi_14: ["--ink2", LineStyle.Solid, 1],
};
const BOUNDS = { rsi_14: [30, 70] };
const TOKENS = [
  "--bg", "--raise", "--hover", "--line", "--line2", "--edge", "--ink", "--ink2", "--ink3", "--up-fill", "--down-fill", "--line-a", "--line-b", "--line-c", "--mark", "--mark-ink",
  "--mark-edge",
];
const LONGEST_HOLE = 30; // bars; a longer one is a pause of the market, not missing minutes
const LONGEST_GAP = 1500; // bars; so many missing ones of an open gap keep their width
const UNBROKEN = 5; // an indicator line does not cross more missing bars than these
const LOWER_PANE = 92;

// Tokens resolved to rgb: the canvas knows neither custom properties nor light-dark()
function colours() {
  const probe = document.createElement("i");
  document.body.append(probe);
  const found = {};
  for (const name of TOKENS) {
    probe.style.color = `var(${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

export class PriceChart {
  #chart;
  #candles;
  #volume;
  #lines = new Map(); // indicator → series, one per unbroken run
  #ground = new Ground(this);
  #pencil = new Pencil(this);
  #ink;
  #step = 60;
  #bars = [];
  #at = []; // starts of the bars and of the whitespace between them, Unix ms
  #time = []; // the same as the chart knows them
  #values = {};
  #marked = null;
  #gaps = [];
  #hollow = false;

  constructor(element, { hover, moved }) {
    this.#chart = createChart(element, {
      autoSize: true,
      layout: { attributionLogo: false, fontFamily: '"Plex Sans", sans-serif', fontSize: 11, panes: { enableResize: false } },
      grid: { vertLines: { visible: false } },
      rightPriceScale: { borderVisible: false, minimumWidth: 66, scaleMargins: { top: 0.07, bottom: 0.24 } },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 5, barSpacing: 8, minBarSpacing: 1 },
      crosshair: { mode: CrosshairMode.Normal },
      localization: { priceFormatter: price, timeFormatter: (time) => this.#timeWords(time) },
      handleScale: { axisPressedMouseMove: { time: true, price: false } },
      handleScroll: { vertTouchDrag: false },
      kineticScroll: { mouse: false, touch: false },
    });
    this.#candles = this.#chart.addSeries(CandlestickSeries, { borderVisible: true, priceLineStyle: LineStyle.Dotted, priceLineWidth: 1 });
    this.#volume = this.#chart.addSeries(HistogramSeries, { priceScaleId: "volume", priceLineVisible: false, lastValueVisible: false, priceFormat: { type: "volume" } });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.83, bottom: 0 } });
    this.#candles.attachPrimitive(this.#ground);
    this.#candles.attachPrimitive(this.#pencil);
    this.paint();
    this.#chart.subscribeCrosshairMove((move) => hover(move.logical === undefined || move.time === undefined ? null : this.#at[Math.round(move.logical)] ?? null));
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange((range) => moved(range));
    this.#chart.timeScale().subscribeSizeChange(() => moved(this.#chart.timeScale().getVisibleLogicalRange()));
  }

  // After a change of ground, colours or bodies
  paint() {
    const ink = colours();
    this.#ink = ink;
    this.#ground.ink = this.#pencil.ink = ink;
    this.#hollow = document.documentElement.dataset.hollow === "yes";
    this.#chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: ink["--bg"] }, textColor: ink["--ink3"], panes: { separatorColor: ink["--line"], separatorHoverColor: ink["--line"] } },
      grid: { horzLines: { color: ink["--line"] } },
      timeScale: { borderColor: ink["--line"] },
      crosshair: { vertLine: { color: ink["--edge"], labelBackgroundColor: ink["--line2"] }, horzLine: { color: ink["--edge"], labelBackgroundColor: ink["--line2"] } },
    });
    this.#candles.applyOptions({
      upColor: this.#hollow ? ink["--bg"] : ink["--up-fill"], borderUpColor: ink["--up-fill"], wickUpColor: ink["--up-fill"],
      downColor: ink["--down-fill"], borderDownColor: ink["--down-fill"], wickDownColor: ink["--down-fill"], priceLineColor: ink["--ink2"],
    });
    for (const [name, runs] of this.#lines) for (const series of runs) series.applyOptions({ color: ink[LINES[name][0]] });
    if (this.#bars.length) this.show(this.#bars, { step: this.#step });
  }

  #timeWords(time) {
    const place = this.#time.indexOf(time);
    const at = new Date(place < 0 ? time * 1000 : wall(this.#at[place]) * 1000);
    const two = (number) => String(number).padStart(2, "0");
    const date = `${at.getUTCDate()} ${at.toLocaleString("en-GB", { month: "short", timeZone: "UTC" })}`;
    return this.#step >= 86_400 ? `${date} ${at.getUTCFullYear()}` : `${date} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  }

  /* Where a moment stands */
  // The last place that begins at the moment or before; -1 before the first
  #floor(at) {
    let [low, high] = [0, this.#at.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#at[middle] <= at) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  get spacing() { return this.#chart.timeScale().options().barSpacing; }
  #middle(place) { return this.#chart.timeScale().logicalToCoordinate(place); }

  // The middle of the bar of a moment; beyond the bars as far as the time is
  x(at) {
    if (!this.#at.length) return null;
    const place = this.#floor(at);
    if (place < 0) return this.#middle(0) + ((at - this.#at[0]) / 1000 / this.#step) * this.spacing;
    const beyond = place === this.#at.length - 1 ? Math.floor((at - this.#at[place]) / 1000 / this.#step) : 0;
    return this.#middle(place) + beyond * this.spacing;
  }

  // The left edge of the first bar that begins at the moment or later
  edge(at) {
    if (!this.#at.length) return null;
    const place = this.#floor(at - 1) + 1;
    const beyond = place === this.#at.length ? Math.max(0, (at - this.#at[place - 1]) / 1000 / this.#step - 1) : 0;
    return this.#middle(Math.min(place, this.#at.length)) - this.spacing / 2 + beyond * this.spacing;
  }

  // [left, right] of the bars that hold some of [from, to); null where none does
  span(from, to) {
    if (!this.#at.length || to <= this.#at[0]) return null;
    const [first, last] = [Math.max(0, this.#floor(from)), this.#floor(to - 1)];
    if (from >= this.#at[first] + this.#step * 1000 && first === last) return null; // in a pause of the market
    return [this.#middle(first) - this.spacing / 2, this.#middle(last) + this.spacing / 2];
  }

  isHigh(at, value) {
    const place = this.#floor(at);
    const bar = this.#bars.find((one) => one.at === this.#at[place]);
    return bar ? value > (bar.h + bar.l) / 2 : true;
  }

  /* Bars */
  #candle(bar, time) {
    const one = { time, open: bar.o, high: bar.h, low: bar.l, close: bar.c };
    return bar.forming ? { ...one, color: this.#ink["--bg"] } : one;
  }

  #column(bar, time) {
    return { time, value: bar.v, color: this.#marked === bar.at ? this.#ink["--ink3"] : this.#ink["--line2"] };
  }

  // Missing bars are whitespace, so that the width stays time; a pause of the market is not
  #places(bars) {
    const found = [];
    let before = null;
    for (const bar of bars) {
      const missing = before === null || this.#step >= 86_400 ? 0 : Math.round((bar.at - before) / 1000 / this.#step) - 1;
      const known = missing > LONGEST_HOLE && missing <= LONGEST_GAP && this.#gaps.some((gap) => gap.from < bar.at && gap.to > before + this.#step * 1000);
      if (missing > 0 && (missing <= LONGEST_HOLE || known)) for (let place = 1; place <= missing; place += 1) found.push([before + place * this.#step * 1000, null]);
      found.push([bar.at, bar]);
      before = bar.at;
    }
    return found;
  }

  show(bars, { step, fresh = false }) {
    this.#step = step;
    this.#bars = bars;
    const places = this.#places(bars);
    this.#at = places.map(([at]) => at);
    this.#time = [];
    for (const at of this.#at) {
      const [time, last] = [wall(at), this.#time.at(-1)];
      this.#time.push(last !== undefined && time <= last ? last + 0.001 : time); // the hour that New York's clocks repeat
    }
    this.#ground.shades = step <= 3600;
    this.#candles.setData(places.map(([, bar], place) => (bar ? this.#candle(bar, this.#time[place]) : { time: this.#time[place] })));
    this.#volume.setData(places.flatMap(([, bar], place) => (bar ? [this.#column(bar, this.#time[place])] : [])));
    this.#chart.timeScale().applyOptions({ timeVisible: step < 86_400 });
    if (fresh) this.#chart.timeScale().setVisibleLogicalRange({ from: places.length - Math.max(40, Math.min(140, this.#chart.timeScale().width() / 8)), to: places.length + 5 });
    this.#pencil.redraw();
  }

  // The newest bar, moved or new. Anything else needs `show`
  update(bar) {
    const last = this.#bars.at(-1);
    if (!last || bar.at < last.at || (this.#step < 86_400 && bar.at > last.at + this.#step * 1000)) return false;
    if (last.at === bar.at) this.#bars[this.#bars.length - 1] = bar;
    else {
      const time = wall(bar.at);
      if (time <= this.#time.at(-1)) return false;
      this.#bars.push(bar);
      this.#at.push(bar.at);
      this.#time.push(time);
    }
    this.#candles.update(this.#candle(bar, this.#time.at(-1)));
    this.#volume.update(this.#column(bar, this.#time.at(-1)));
    return true;
  }

  /* Lines */
  // One series per unbroken run: a line series would draw across what is missing. No points: none of it
  lines(name, points) {
    this.#values[name] = new Map(points.map((point) => [point.at, point.value]));
    const runs = [];
    let before = -Infinity;
    for (const point of points) {
      const place = this.#floor(point.at);
      if (point.value === null || this.#at[place] !== point.at) continue;
      if (place - before > UNBROKEN) runs.push([]);
      runs.at(-1).push({ time: this.#time[place], value: point.value });
      before = place;
    }
    const series = this.#lines.get(name) ?? [];
    while (series.length > runs.length) this.#chart.removeSeries(series.pop());
    const [token, lineStyle, pane] = LINES[name];
    while (series.length < runs.length) {
      const made = this.#chart.addSeries(LineSeries, { color: this.#ink[token], lineWidth: 1.5, lineStyle, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false }, pane);
      if (pane > 0 && !series.length) {
        for (const level of BOUNDS[name] ?? []) made.createPriceLine({ price: level, color: this.#ink["--line2"], lineWidth: 1, lineStyle: LineStyle.Dotted, axisLabelVisible: false });
        this.#chart.panes()[pane]?.setHeight(LOWER_PANE);
      }
      series.push(made);
    }
    runs.forEach((run, place) => series[place].setData(run));
    this.#lines.set(name, series);
  }

  valueAt(name, at) { return this.#values[name]?.get(at) ?? null; }

  /* What is drawn */
  hours(sessions) {
    this.#ground.sessions = sessions;
    this.#ground.redraw();
  }

  gaps(found) {
    this.#gaps = found;
    this.#ground.gaps = this.#pencil.gaps = found;
    this.#ground.redraw();
  }

  marks(found, { visible, chosen }) {
    const byStart = new Map(this.#bars.map((bar) => [bar.at, bar]));
    const kept = new Map();
    for (const one of visible ? found : []) {
      const bar = byStart.get(one.at);
      if (!bar || one.direction === "neutral") continue;
      const up = one.direction === "bullish";
      const key = `${one.at} ${up}`;
      kept.set(key, { at: one.at, up, low: bar.l, high: bar.h, struck: (kept.get(key)?.struck ?? true) && one.status === "retracted" });
    }
    this.#pencil.marks = [...kept.values()];
    const end = chosen ? this.#bars.findIndex((bar) => bar.at === chosen.at) : -1;
    const span = end < 0 ? [] : this.#bars.slice(Math.max(0, end - chosen.candles + 1), end + 1);
    this.#pencil.chosen = end < 0 ? null : {
      from: span[0].at, to: chosen.at, low: Math.min(...span.map((bar) => bar.l)), high: Math.max(...span.map((bar) => bar.h)),
      name: chosen.name, up: chosen.direction === "bullish", struck: chosen.status === "retracted", geometry: chosen.geometry,
    };
    const marked = end < 0 ? null : chosen.at;
    if (marked !== this.#marked) {
      this.#marked = marked;
      this.#volume.setData(this.#bars.map((bar) => this.#column(bar, this.#time[this.#floor(bar.at)])));
    }
    this.#pencil.redraw();
  }

  // Bring a bar, and what began before it, into sight
  reveal(from, to) {
    const scale = this.#chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    const [first, last] = [Math.max(0, this.#floor(from)), this.#floor(to)];
    if (last < 0 || !range || (first >= range.from && last <= range.to)) return;
    const width = Math.max(range.to - range.from, (last - first) * 1.4);
    scale.setVisibleLogicalRange({ from: last - width * 0.75, to: last + width * 0.25 });
  }

  // Where the bars stand, for the strip below, of those that can be seen
  cells() {
    const scale = this.#chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range) return [];
    const byStart = new Map(this.#bars.map((bar) => [bar.at, bar]));
    const found = [];
    for (let place = Math.max(0, Math.floor(range.from)); place <= Math.min(this.#at.length - 1, Math.ceil(range.to)); place += 1) {
      found.push({ at: this.#at[place], bar: byStart.get(this.#at[place]) ?? null, x: this.#middle(place) - this.spacing / 2, width: this.spacing });
    }
    return found;
  }
}
