// What the machine draws on a price chart: below the candles sessions and missing minutes, above them marks and geometry, as ink lines.
// Two primitives of the candles; where a moment stands they ask `chart.x(at)` and `chart.edge(at)`, in pixels.

const each = (draw) => ({ draw: (target) => target.useMediaCoordinateSpace(({ context, mediaSize }) => draw(context, mediaSize)) });

class Layer {
  ink = {};
  order = "top";
  series = null;
  #update = null;

  constructor(chart) { this.chart = chart; }
  attached({ series, requestUpdate }) { this.series = series; this.#update = requestUpdate; }
  detached() { this.series = null; this.#update = null; }
  updateAllViews() {}
  paneViews() { return [{ zOrder: () => this.order, renderer: () => each((context, size) => this.series && this.draw(context, size)) }]; }
  redraw() { this.#update?.(); }
  y(price) { return this.series.priceToCoordinate(price); }
}

// Extended hours as a shade, the border of a day as a dotted line, what is missing as a hatch over the full height
export class Ground extends Layer {
  order = "bottom";
  sessions = []; // [pre-market open, open, close, post-market close], Unix ms
  gaps = []; // { from, to, open, cause }
  shades = true;

  draw(context, { width, height }) {
    if (this.shades) this.#hours(context, width, height);
    for (const gap of this.gaps) if (gap.open) this.#hatch(context, gap, width, height);
  }

  #hours(context, width, height) {
    context.fillStyle = this.ink["--hover"];
    for (const [pre, open, close, post] of this.sessions) {
      for (const [from, to] of [[pre, open], [close, post]]) {
        if (from >= to) continue;
        const [left, right] = [this.chart.edge(from), this.chart.edge(to)];
        if (left === null || right === null || right <= 0 || left >= width || right <= left) continue;
        context.fillRect(Math.max(0, left), 0, Math.min(width, right) - Math.max(0, left), height);
      }
    }
    context.strokeStyle = this.ink["--line2"];
    context.lineWidth = 1;
    context.setLineDash([1, 4]);
    for (const [pre] of this.sessions) {
      const x = this.chart.edge(pre);
      if (x === null || x <= 1 || x >= width) continue;
      context.beginPath();
      context.moveTo(Math.round(x) + 0.5, 0);
      context.lineTo(Math.round(x) + 0.5, height);
      context.stroke();
    }
    context.setLineDash([]);
  }

  #hatch(context, gap, width, height) {
    const span = this.chart.span(gap.from, gap.to);
    if (!span || span[1] < 0 || span[0] > width) return;
    const [left, right] = span;
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    context.strokeStyle = this.ink["--ink3"];
    context.lineWidth = 1;
    for (let x = left - height; x < right; x += 6) {
      context.beginPath();
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
      context.stroke();
    }
    context.restore();
  }
}

export class Pencil extends Layer {
  marks = []; // { at, up, low, high, struck }
  chosen = null; // { from, to, low, high, name, up, struck, geometry }
  gaps = [];

  draw(context, { width, height }) {
    context.lineWidth = 1;
    for (const mark of this.marks) this.#mark(context, mark);
    if (this.chosen?.geometry) this.#geometry(context, this.chosen, width);
    else if (this.chosen) this.#bracket(context, this.chosen);
    for (const gap of this.gaps) if (gap.open) this.#plate(context, gap, width, height);
  }

  #mark(context, { at, up, low, high, struck }) {
    const [x, base] = [this.chart.x(at), this.y(up ? low : high)];
    if (x === null || base === null) return;
    const y = base + (up ? 9 : -9);
    const tip = up ? -3.5 : 3.5;
    context.strokeStyle = struck ? this.ink["--edge"] : this.ink["--ink2"];
    context.beginPath();
    context.moveTo(x, y + tip);
    context.lineTo(x + 4, y - tip);
    context.lineTo(x - 4, y - tip);
    context.closePath();
    if (struck) {
      context.moveTo(x - 6, y + 4);
      context.lineTo(x + 6, y - 4);
    }
    context.stroke();
  }

  // Text with a halo of paper
  #text(context, words, x, y, { align = "center", weight = 400, struck = false } = {}) {
    context.font = `${weight} 12px "Plex Sans", sans-serif`;
    context.textAlign = align;
    context.lineJoin = "round";
    context.strokeStyle = this.ink["--bg"];
    context.lineWidth = 4;
    context.strokeText(words, x, y);
    context.fillStyle = this.ink["--ink"];
    context.fillText(words, x, y);
    if (!struck) return;
    const length = context.measureText(words).width;
    const left = align === "right" ? x - length : align === "left" ? x : x - length / 2;
    context.fillRect(left, y - 4, length, 1);
  }

  #line(context, from, to, { width = 1.5, dash = [], colour = "--ink" } = {}) {
    const points = [from, to].map(({ at, price }) => [this.chart.x(at), this.y(price)]);
    if (points.flat().includes(null)) return null;
    context.strokeStyle = this.ink[colour];
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    context.moveTo(...points[0]);
    context.lineTo(...points[1]);
    context.stroke();
    context.setLineDash([]);
    return points;
  }

  // Beside its point on the outer side, else on the inner one, else a line further out: never on another word
  #label(context, words, x, y, high, taken) {
    context.font = '400 12px "Plex Sans", sans-serif';
    const half = context.measureText(words).width / 2 + 2;
    const free = (at) => taken.every(([left, right, top, bottom]) => x + half < left || x - half > right || at < top || at - 12 > bottom);
    const places = high ? [-9, 18, -23, 32] : [18, -9, 32, -23];
    const at = y + (places.find((place) => free(y + place)) ?? places[0]);
    taken.push([x - half, x + half, at - 12, at]);
    this.#text(context, words, x, at);
  }

  #geometry(context, { geometry, name, up, struck, to }, width) {
    let label = null;
    const taken = [];
    for (const line of geometry.lines) {
      const drawn = this.#line(context, line.from, line.to, { width: line.kind === "curve" ? 1.2 : 1.5, colour: struck ? "--edge" : "--ink" });
      if (drawn && (label === null || drawn[0][0] < label[0])) label = drawn[0];
    }
    if (geometry.level !== null && geometry.level !== undefined) {
      const y = this.y(geometry.level);
      const x = this.chart.x(to);
      if (y !== null && x !== null) {
        context.strokeStyle = this.ink["--ink2"];
        context.lineWidth = 1;
        context.setLineDash([2, 3]);
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(width, y);
        context.stroke();
        context.setLineDash([]);
      }
    }
    for (const { at, price, label: words } of geometry.points) {
      const [x, y] = [this.chart.x(at), this.y(price)];
      if (x === null || y === null) continue;
      context.beginPath();
      context.arc(x, y, 3.5, 0, 2 * Math.PI);
      context.fillStyle = this.ink["--bg"];
      context.fill();
      context.strokeStyle = this.ink[struck ? "--edge" : "--ink"];
      context.lineWidth = 1.6;
      context.stroke();
      label ??= [x, y];
    }
    if (label) {
      const left = label[0] > 140;
      const [x, y] = [left ? label[0] - 10 : label[0] + 10, label[1] + (left ? 4 : up ? 18 : -12)];
      this.#text(context, name, x, y, { align: left ? "right" : "left", weight: 600, struck });
      const wide = context.measureText(name).width;
      taken.push([left ? x - wide : x, left ? x : x + wide, y - 12, y]);
    }
    for (const { at, price, label: words } of geometry.points) {
      const [x, y] = [this.chart.x(at), this.y(price)];
      if (x !== null && y !== null) this.#label(context, words, x, y, this.chart.isHigh(at, price), taken);
    }
  }

  #bracket(context, { from, to, low, high, name, up, struck }) {
    const [begin, end, bottomAt, topAt] = [this.chart.x(from), this.chart.x(to), this.y(low), this.y(high)];
    if ([begin, end, bottomAt, topAt].includes(null)) return;
    const half = Math.max(4, this.chart.spacing / 2 + 1);
    const [left, right, top, bottom] = [begin - half, end + half, topAt - 6, bottomAt + 6];
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
    const x = Math.max(right, context.measureText(name).width + 4);
    this.#text(context, name, x, up ? bottom + 15 : top - 7, { align: "right", weight: 600, struck });
  }

  #plate(context, { from, to, cause, words }, width, height) {
    const span = this.chart.span(from, to);
    if (!span || span[1] < 0 || span[0] > width) return;
    context.font = '500 11.5px "Plex Sans", sans-serif';
    context.textAlign = "center";
    const text = words ?? cause;
    const wide = context.measureText(text).width + 12;
    const middle = Math.min(width - wide / 2 - 4, Math.max(wide / 2 + 4, (span[0] + span[1]) / 2));
    const y = height * 0.74;
    context.fillStyle = this.ink["--mark"];
    context.fillRect(middle - wide / 2, y, wide, 18);
    context.strokeStyle = this.ink["--mark-edge"];
    context.lineWidth = 1;
    context.strokeRect(middle - wide / 2 + 0.5, y + 0.5, wide - 1, 17);
    context.fillStyle = this.ink["--mark-ink"];
    context.fillText(text, middle, y + 13);
  }
}
