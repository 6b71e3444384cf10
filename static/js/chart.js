// The price chart: candles, volume, indicator lines, and what the machine draws on them in pencil. Knows no socket and no address.

import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, LineSeries, LineStyle, createChart,
} from "../vendor/lightweight-charts/lightweight-charts.standalone.production.mjs";
import { price, wall } from "./words.js";

const LINES = { ema_20: ["--line-a", LineStyle.Solid], sma_50: ["--line-b", LineStyle.Solid], vwap: ["--line-c", LineStyle.Dashed] };
const LONGEST_HOLE = 30; // bars; a longer one is a pause of the market, not missing minutes
const UNBROKEN = 5; // an indicator line does not cross more missing bars than these

// Tokens resolved to rgb: the canvas knows neither custom properties nor light-dark()
function colours() {
  const probe = document.createElement("i");
  document.body.append(probe);
  const found = {};
  for (const name of ["--bg", "--raise", "--line", "--line2", "--edge", "--ink", "--ink2", "--ink3", "--up-fill", "--down-fill", "--line-a", "--line-b", "--line-c"]) {
    probe.style.color = `var(${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

// Open triangles beside the bars; the chosen detection's bars in a bracket, with its name
class Pencil {
  marks = [];
  chosen = null;
  ink = {};
  #host = null;

  attached(host) { this.#host = host; }
  detached() { this.#host = null; }
  updateAllViews() {}
  paneViews() { return [{ zOrder: () => "top", renderer: () => ({ draw: (target) => target.useMediaCoordinateSpace(({ context }) => this.#draw(context)) }) }]; }
  redraw() { this.#host?.requestUpdate(); }

  #place(time, value) {
    const x = this.#host.chart.timeScale().timeToCoordinate(time);
    const y = this.#host.series.priceToCoordinate(value);
    return x === null || y === null ? null : [x, y];
  }

  #draw(context) {
    if (!this.#host) return;
    context.lineWidth = 1;
    for (const mark of this.marks) {
      const at = this.#place(mark.time, mark.up ? mark.low : mark.high);
      if (!at) continue;
      const [x, y] = [at[0], at[1] + (mark.up ? 9 : -9)];
      const tip = mark.up ? -3.5 : 3.5;
      context.strokeStyle = mark.struck ? this.ink["--edge"] : this.ink["--ink2"];
      context.beginPath();
      context.moveTo(x, y + tip);
      context.lineTo(x + 4, y - tip);
      context.lineTo(x - 4, y - tip);
      context.closePath();
      context.stroke();
      if (mark.struck) {
        context.beginPath();
        context.moveTo(x - 6, y + 4);
        context.lineTo(x + 6, y - 4);
        context.stroke();
      }
    }
    if (this.chosen) this.#bracket(context, this.chosen);
  }

  #bracket(context, { from, to, low, high, name, up, struck }) {
    const [first, last] = [this.#place(from, low), this.#place(to, high)];
    if (!first || !last) return;
    const half = Math.max(4, this.#host.chart.timeScale().options().barSpacing / 2 + 1);
    const [left, right, top, bottom] = [first[0] - half, last[0] + half, last[1] - 6, first[1] + 6];
    context.strokeStyle = this.ink["--ink"];
    context.lineWidth = 1.5;
    for (const [y, tick] of [[top, 4], [bottom, -4]]) {
      context.beginPath();
      context.moveTo(left, y + tick);
      context.lineTo(left, y);
      context.lineTo(right, y);
      context.lineTo(right, y + tick);
      context.stroke();
    }
    context.font = '600 12px "Plex Sans", sans-serif';
    context.textAlign = "right";
    const y = up ? bottom + 15 : top - 7;
    const width = context.measureText(name).width;
    const x = Math.max(right, width + 4);
    context.strokeStyle = this.ink["--bg"];
    context.lineWidth = 4;
    context.lineJoin = "round";
    context.strokeText(name, x, y);
    context.fillStyle = this.ink["--ink"];
    context.fillText(name, x, y);
    if (!struck) return;
    context.strokeStyle = this.ink["--ink"];
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x - width, y - 4);
    context.lineTo(x, y - 4);
    context.stroke();
  }
}

export class PriceChart {
  #chart;
  #candles;
  #volume;
  #lines = new Map(); // indicator → series, one per unbroken run
  #pencil = new Pencil();
  #ink;
  #step = 60;
  #bars = [];
  #values = {};
  #hidden = new Set();
  #marked = new Set();

  constructor(element, { hover, moved }) {
    this.#chart = createChart(element, {
      autoSize: true,
      layout: { attributionLogo: false, fontFamily: '"Plex Sans", sans-serif', fontSize: 11, panes: { enableResize: false } },
      grid: { vertLines: { visible: false } },
      rightPriceScale: { borderVisible: false, minimumWidth: 66, scaleMargins: { top: 0.07, bottom: 0.24 } },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 5, barSpacing: 8, minBarSpacing: 1.5 },
      crosshair: { mode: CrosshairMode.Normal },
      localization: { priceFormatter: price, timeFormatter: (time) => this.#timeWords(time) },
      handleScale: { axisPressedMouseMove: { time: true, price: false } },
      kineticScroll: { mouse: false, touch: false },
    });
    this.#candles = this.#chart.addSeries(CandlestickSeries, { borderVisible: true, priceLineStyle: LineStyle.Dotted, priceLineWidth: 1 });
    this.#volume = this.#chart.addSeries(HistogramSeries, { priceScaleId: "volume", priceLineVisible: false, lastValueVisible: false, priceFormat: { type: "volume" } });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.83, bottom: 0 } });
    this.#candles.attachPrimitive(this.#pencil);
    this.paint();
    this.#chart.subscribeCrosshairMove((move) => hover(move.time === undefined ? null : move.time));
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange(moved);
    this.#chart.timeScale().subscribeSizeChange(moved);
  }

  // After a change of ground or colours
  paint() {
    const ink = colours();
    this.#ink = ink;
    this.#pencil.ink = ink;
    this.#chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: ink["--bg"] }, textColor: ink["--ink3"] },
      grid: { horzLines: { color: ink["--line"] } },
      timeScale: { borderColor: ink["--line"] },
      crosshair: { vertLine: { color: ink["--edge"], labelBackgroundColor: ink["--line2"] }, horzLine: { color: ink["--edge"], labelBackgroundColor: ink["--line2"] } },
    });
    this.#candles.applyOptions({
      upColor: ink["--up-fill"], borderUpColor: ink["--up-fill"], wickUpColor: ink["--up-fill"],
      downColor: ink["--down-fill"], borderDownColor: ink["--down-fill"], wickDownColor: ink["--down-fill"], priceLineColor: ink["--ink2"],
    });
    for (const [name, runs] of this.#lines) for (const series of runs) series.applyOptions({ color: ink[LINES[name][0]] });
    if (this.#bars.length) this.show(this.#bars, { step: this.#step });
  }

  #timeWords(time) {
    const at = new Date(time * 1000);
    const two = (number) => String(number).padStart(2, "0");
    const date = `${at.getUTCDate()} ${at.toLocaleString("en-GB", { month: "short", timeZone: "UTC" })}`;
    return this.#step >= 86_400 ? `${date} ${at.getUTCFullYear()}` : `${date} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  }

  #candle(bar) {
    const one = { time: wall(bar.at), open: bar.o, high: bar.h, low: bar.l, close: bar.c };
    return bar.forming ? { ...one, color: this.#ink["--bg"] } : one;
  }

  #column(bar) {
    return { time: wall(bar.at), value: bar.v, color: this.#marked.has(bar.at) ? this.#ink["--ink3"] : this.#ink["--line2"] };
  }

  // Missing bars are whitespace, so that the width stays time; a pause of the market is not
  #withHoles(points, at) {
    const found = [];
    let before = null;
    for (const point of points) {
      const missing = before === null ? 0 : Math.round((at(point) - before) / 1000 / this.#step) - 1;
      if (this.#step < 86_400 && missing > 0 && missing <= LONGEST_HOLE) {
        for (let place = 1; place <= missing; place += 1) found.push({ time: wall(before + place * this.#step * 1000) });
      }
      found.push(point);
      before = at(point);
    }
    return found;
  }

  show(bars, { step, fresh = false }) {
    this.#step = step;
    this.#bars = bars;
    const holes = this.#withHoles(bars, (bar) => bar.at);
    this.#candles.setData(holes.map((one) => ("o" in one ? this.#candle(one) : one)));
    this.#volume.setData(bars.map((bar) => this.#column(bar)));
    this.#chart.timeScale().applyOptions({ timeVisible: step < 86_400 });
    if (fresh) this.#chart.timeScale().setVisibleLogicalRange({ from: holes.length - Math.max(60, Math.min(140, this.#chart.timeScale().width() / 8)), to: holes.length + 5 });
    this.#pencil.redraw();
  }

  // The newest bar, moved or new. Anything older needs `show`
  update(bar) {
    const last = this.#bars.at(-1);
    if (last && bar.at < last.at) return false;
    if (last && bar.at > last.at + this.#step * 1000) return false;
    if (last?.at === bar.at) this.#bars[this.#bars.length - 1] = bar;
    else this.#bars.push(bar);
    this.#candles.update(this.#candle(bar));
    this.#volume.update(this.#column(bar));
    return true;
  }

  // One series per unbroken run: a line series would draw across what is missing
  lines(name, values) {
    this.#values[name] = values;
    const runs = [];
    for (const point of values) {
      const run = runs.at(-1);
      if (run && (point.at - run.at(-1).at) / 1000 / this.#step <= UNBROKEN) run.push(point);
      else runs.push([point]);
    }
    const series = this.#lines.get(name) ?? [];
    while (series.length > runs.length) this.#chart.removeSeries(series.pop());
    const [token, lineStyle] = LINES[name];
    while (series.length < runs.length) {
      series.push(this.#chart.addSeries(LineSeries, { color: this.#ink[token], lineWidth: 1.5, lineStyle, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false, visible: !this.#hidden.has(name) }));
    }
    runs.forEach((run, place) => series[place].setData(run.map((point) => ({ time: wall(point.at), value: point.value }))));
    this.#lines.set(name, series);
  }

  toggle(name, visible) {
    if (visible) this.#hidden.delete(name);
    else this.#hidden.add(name);
    for (const series of this.#lines.get(name) ?? []) series.applyOptions({ visible });
  }

  marks(found, { visible, chosen }) {
    const byTime = new Map(this.#bars.map((bar) => [bar.at, bar]));
    const kept = new Map();
    for (const one of found) {
      const bar = byTime.get(one.at);
      if (!bar || one.direction === "neutral") continue;
      const up = one.direction === "bullish";
      const key = `${one.at} ${up}`;
      const struck = (kept.get(key)?.struck ?? true) && one.status === "retracted";
      kept.set(key, { time: wall(one.at), up, low: bar.l, high: bar.h, struck });
    }
    this.#pencil.marks = visible ? [...kept.values()] : [];
    this.#pencil.chosen = null;
    const before = [...this.#marked];
    this.#marked = new Set(chosen ? [chosen.at] : []);
    if (chosen && byTime.has(chosen.at)) {
      const end = this.#bars.findIndex((bar) => bar.at === chosen.at);
      const span = this.#bars.slice(Math.max(0, end - (chosen.candles ?? 1) + 1), end + 1);
      this.#pencil.chosen = {
        from: wall(span[0].at), to: wall(chosen.at), low: Math.min(...span.map((bar) => bar.l)), high: Math.max(...span.map((bar) => bar.h)),
        name: chosen.name, up: chosen.direction === "bullish", struck: chosen.status === "retracted",
      };
    }
    if (before.join() !== [...this.#marked].join()) this.#volume.setData(this.#bars.map((bar) => this.#column(bar)));
    this.#pencil.redraw();
  }

  reveal(at) {
    const place = this.#bars.findIndex((bar) => bar.at === at);
    const range = this.#chart.timeScale().getVisibleLogicalRange();
    const x = this.#chart.timeScale().timeToCoordinate(wall(at));
    if (place < 0 || !range || (x !== null && x > 0 && x < this.#chart.timeScale().width())) return;
    const index = this.#chart.timeScale().timeToIndex(wall(at), true) ?? place;
    const half = (range.to - range.from) / 2;
    this.#chart.timeScale().setVisibleLogicalRange({ from: index - half, to: index + half });
  }

  // Where the bars stand, for the strip below: [left edge, width] in pixels by bar, of those that can be seen
  cells() {
    const scale = this.#chart.timeScale();
    const width = scale.width();
    const size = scale.options().barSpacing;
    const found = [];
    for (const bar of this.#withHoles(this.#bars, (one) => one.at)) {
      const x = scale.timeToCoordinate("o" in bar ? wall(bar.at) : bar.time);
      if (x !== null && x > -size && x < width + size) found.push({ bar: "o" in bar ? bar : null, x: x - size / 2, width: size });
    }
    return found;
  }

  valueAt(name, at) { return this.#values[name]?.find((point) => point.at === at)?.value ?? null; }
  get plotWidth() { return this.#chart.timeScale().width(); }
}

