// The loss chart: SVG drawn by hand, redrawn when data or width change.

const svgNamespace = "http://www.w3.org/2000/svg";
const margin = { left: 46, right: 14, top: 10, bottom: 26 };
const maxPoints = 700;

function element(name, attributes, text) {
  const node = document.createElementNS(svgNamespace, name);
  for (const [key, value] of Object.entries(attributes)) {
    node.setAttribute(key, value);
  }
  if (text !== undefined) {
    node.textContent = text;
  }
  return node;
}

function niceTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough) ?? rough;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    ticks.push(i * step + 0);
  }
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// Means of equally many neighbours, so that a curve has at most maxPoints points.
function thin(points) {
  const size = Math.ceil(points.length / maxPoints);
  if (size <= 1) {
    return points;
  }
  const thinned = [];
  for (let i = 0; i < points.length; i += size) {
    const group = points.slice(i, i + size);
    thinned.push({ x: group[group.length - 1].x, y: group.reduce((sum, p) => sum + p.y, 0) / group.length });
  }
  return thinned;
}

// Means over a window around each point, narrower towards both ends, so that the curve does not lag.
function smooth(points) {
  const reach = Math.min(25, Math.floor(points.length / 40));
  const sums = [0];
  for (const p of points) {
    sums.push(sums[sums.length - 1] + p.y);
  }
  return points.map((p, i) => {
    const r = Math.min(reach, i, points.length - 1 - i);
    return { x: p.x, y: (sums[i + r + 1] - sums[i - r]) / (2 * r + 1) };
  });
}

function path(points, x, y) {
  return points.map((p, i) => `${i === 0 ? "M" : "L"}${x(p.x).toFixed(1)} ${y(p.y).toFixed(1)}`).join("");
}

function nearest(points, step) {
  let [low, high] = [0, points.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].x < step) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const before = points[low - 1];
  return before && step - before.x < points[low].x - step ? before : points[low];
}

export class LossChart {
  #host;
  #reading;
  #train = [];
  #validation = [];
  #total = 0;
  #scale = null;

  constructor(host, reading) {
    this.#host = host;
    this.#reading = reading;
    new ResizeObserver(() => this.#draw()).observe(host);
    host.addEventListener("pointermove", event => this.#point(event));
    host.addEventListener("pointerleave", () => this.#rest());
  }

  // train, validation: [{ x: step, y: loss }], finite, in order of steps; total: steps in all.
  show(train, validation, total) {
    this.#train = train;
    this.#validation = validation;
    this.#total = total;
    this.#draw();
  }

  #draw() {
    const { width, height } = this.#host.getBoundingClientRect();
    if (width < 50 || height < 50) {
      return;
    }

    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": this.#summary() });
    this.#host.replaceChildren(svg);
    const all = [...this.#train, ...this.#validation];
    if (all.length === 0) {
      svg.append(element("text", { class: "empty", x: width / 2, y: height / 2, "text-anchor": "middle" }, "No steps yet"));
      this.#scale = null;
      this.#reading.textContent = "";
      return;
    }

    const values = all.map(p => p.y).sort((a, b) => a - b);
    let [low, high] = [values[0], values[values.length - 1]];
    // Values that differ by rounding alone are one: an axis as narrow as that has ticks without end.
    const differ = high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high));
    const space = (differ ? high - low : Math.abs(high) || 1) * 0.06;
    [low, high] = [low - space, high + space];
    const last = Math.max(this.#total, all.reduce((most, p) => Math.max(most, p.x), 1));
    const x = step => margin.left + (step / last) * (width - margin.left - margin.right);
    const y = loss => margin.top + ((high - loss) / (high - low)) * (height - margin.top - margin.bottom);
    this.#scale = { x, width, height, last };

    const horizontal = niceTicks(low, high, Math.max(3, height / 55));
    for (const tick of horizontal.ticks) {
      svg.append(element("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(tick), y2: y(tick) }));
      svg.append(element("text", { class: "tick", x: margin.left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick.toFixed(horizontal.digits)));
    }
    for (const tick of niceTicks(0, last, Math.max(2, width / 110)).ticks.filter(t => Number.isInteger(t))) {
      svg.append(element("text", { class: "tick", x: x(tick), y: height - 6, "text-anchor": tick === 0 ? "start" : x(tick) > width - 40 ? "end" : "middle" }, tick.toLocaleString("en")));
    }

    svg.append(element("path", { class: "raw", d: path(thin(this.#train), x, y) }));
    svg.append(element("path", { class: "train", d: path(thin(smooth(this.#train)), x, y) }));
    svg.append(element("path", { class: "validation", d: path(this.#validation, x, y) }));
    if (this.#validation.length <= 40) {
      for (const p of this.#validation) {
        svg.append(element("circle", { class: "validation", cx: x(p.x), cy: y(p.y), r: 3.5 }));
      }
    }
    this.#rest();
  }

  #point(event) {
    if (!this.#scale || this.#train.length === 0) {
      return;
    }
    const left = event.clientX - this.#host.getBoundingClientRect().left;
    const share = (left - margin.left) / (this.#scale.width - margin.left - margin.right);
    const train = nearest(this.#train, share * this.#scale.last);
    this.#host.querySelector(".cursor")?.remove();
    const at = this.#scale.x(train.x);
    this.#host.firstChild.append(element("line", { class: "cursor", x1: at, x2: at, y1: margin.top, y2: this.#scale.height - margin.bottom }));
    this.#read(train);
  }

  #rest() {
    this.#host.querySelector(".cursor")?.remove();
    if (this.#train.length > 0) {
      this.#read(this.#train[this.#train.length - 1]);
    }
  }

  #read(train) {
    const validation = this.#validation.filter(p => p.x <= train.x).at(-1);
    this.#reading.textContent = `Step ${train.x.toLocaleString("en")}: train ${train.y.toFixed(4)}`
      + (validation ? `, validation ${validation.y.toFixed(4)} (step ${validation.x.toLocaleString("en")})` : "");
  }

  #summary() {
    const [train, validation] = [this.#train.at(-1), this.#validation.at(-1)];
    return train
      ? `Loss over steps. Train loss went from ${this.#train[0].y.toFixed(2)} to ${train.y.toFixed(2)} at step ${train.x}.`
        + (validation ? ` Validation loss is ${validation.y.toFixed(2)}.` : "")
      : "Loss over steps: no steps yet.";
  }
}
