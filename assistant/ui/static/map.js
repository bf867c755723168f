// The map of the library: points on a canvas, coloured by topic, to be dragged, zoomed, searched and opened.
//
// Places are whole numbers from 0 to `steps`, held in typed arrays. A frame is drawn when something has changed, at most
// once for each refresh of the screen, pixel by pixel from stamps made beforehand: the canvas's own calls take ten times as
// long for so many points where no graphics card helps. A grid finds the point at a place.

import { openSheet, place } from "./page.js";

const COLOURS = 7;
const ZOOM = { least: 0.8, most: 60, step: 1.6 };
const PAN_PX = 60, CLICK_PX = 5, REACH_PX = 14, FOCUS_PX = 160;
const CELLS = 96;
const SHADES = 4;
const OFFERED = 8;
const POLL_MS = 500;

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Return a colour, mixed with another one, as a pixel: both as #rrggbb. */
function pixel(colour, ground = colour, share = 1) {
  const part = (at) => parseInt(colour.slice(at, at + 2), 16) * share + parseInt(ground.slice(at, at + 2), 16) * (1 - share);
  return ((255 << 24) | (Math.round(part(5)) << 16) | (Math.round(part(3)) << 8) | Math.round(part(1))) >>> 0;
}

const element = (id) => document.getElementById(`explore-${id}`);

// --- The papers ----------------------------------------------------------------------------------------------------

/** The papers of a map, and a grid over it: `order` holds them cell by cell, `starts` where each cell begins. */
class Papers {
  constructor({ steps, ids, titles, x, y, topic, names, middles }) {
    Object.assign(this, { steps, ids, titles, names, middles });
    this.x = Float32Array.from(x);
    this.y = Float32Array.from(y);
    this.topic = Uint8Array.from(topic);
    this.lit = new Uint8Array(ids.length).fill(1);
    this.folded = null;
    const cells = Uint16Array.from(this.x, (_, i) => this.cell(this.y[i]) * CELLS + this.cell(this.x[i]));
    this.starts = new Int32Array(CELLS * CELLS + 1);
    for (const cell of cells) this.starts[cell + 1]++;
    for (let cell = 0; cell < CELLS * CELLS; cell++) this.starts[cell + 1] += this.starts[cell];
    this.order = new Int32Array(ids.length);
    const next = this.starts.slice();
    for (let i = 0; i < cells.length; i++) this.order[next[cells[i]]++] = i;
  }

  cell(place) {
    return Math.max(0, Math.min(CELLS - 1, Math.floor((place / this.steps) * CELLS)));
  }

  /** Return the lit paper nearest to a place within a reach, or -1. */
  nearest(x, y, reach) {
    let best = -1, least = reach * reach;
    for (let row = this.cell(y - reach); row <= this.cell(y + reach); row++) {
      const from = this.starts[row * CELLS + this.cell(x - reach)];
      const to = this.starts[row * CELLS + this.cell(x + reach) + 1];
      for (let at = from; at < to; at++) {
        const i = this.order[at];
        const distance = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (distance < least && this.lit[i]) (best = i), (least = distance);
      }
    }
    return best;
  }

  /** Light up the papers of some topics (none: all) whose title holds all words; return their number. */
  light(topics, text) {
    const words = fold(text).split(/\s+/).filter(Boolean);
    if (words.length) this.folded ??= this.titles.map(fold);
    let n = 0;
    for (let i = 0; i < this.lit.length; i++) {
      const own = !topics.size || topics.has(this.topic[i]);
      n += this.lit[i] = own && words.every((word) => this.folded[i].includes(word)) ? 1 : 0;
    }
    this.dimmed = n < this.lit.length;
    return n;
  }
}

// --- The plane -----------------------------------------------------------------------------------------------------

class Plane {
  constructor(section) {
    this.section = section;
    this.canvas = element("plane");
    this.pen = this.canvas.getContext("2d", { alpha: false });
    this.box = section.querySelector(".plane");
    this.tip = section.querySelector(".tip");
    this.ring = section.querySelector(".ring");
    this.topics = new Set();
    this.pointers = new Map();
    this.near = -1;
    this.hovered = -1;
    this.size = new ResizeObserver(() => this.resize());
    this.size.observe(this.canvas);
    this.listen();
  }

  /** Fetch the map once the canvas is seen; while the server makes it, ask again. */
  async load() {
    this.loading = true;
    const state = this.section.querySelector(".state");
    try {
      let reply;
      while ((reply = await fetch("/page/explore/map.json")).status === 202) {
        await new Promise((wake) => setTimeout(wake, POLL_MS));
        if (!this.canvas.isConnected) return;
      }
      if (!reply.ok) return place(this.box, await reply.text());
      this.papers = new Papers(await reply.json());
    } catch {
      state.textContent = "The map could not be fetched; is the server still running? Reload this page to try again.";
      return;
    }
    state.hidden = true;
    this.box.removeAttribute("aria-busy");
    this.showAll();
    this.dress();
    const topics = await fetch("/page/explore/topics");
    place(element("topics"), await topics.text());
  }

  // --- From places to pixels and back ---

  get scale() {
    return (0.94 * Math.min(this.width, this.height) * this.zoom) / this.papers.steps;
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }

  toMap(x, y) {
    return [(x - this.width / 2) / this.scale + this.x, (y - this.height / 2) / this.scale + this.y];
  }

  showAll() {
    this.zoom = 1;
    this.x = this.y = this.papers.steps / 2;
    this.change();
  }

  /** Move by pixels; some of the map stays in sight. */
  pan(dx, dy) {
    const hold = (value) => Math.max(0, Math.min(this.papers.steps, value));
    this.x = hold(this.x - dx / this.scale);
    this.y = hold(this.y - dy / this.scale);
    this.change();
  }

  /** Zoom, keeping what is at a point of the screen where it is. */
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const [before, above] = this.toMap(x, y);
    this.zoom = Math.max(ZOOM.least, Math.min(ZOOM.most, this.zoom * factor));
    const [after, below] = this.toMap(x, y);
    this.x += before - after;
    this.y += above - below;
    this.pan(0, 0);
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    this.density = window.devicePixelRatio || 1;
    this.width = clientWidth;
    this.height = clientHeight;
    this.canvas.width = Math.round(clientWidth * this.density);
    this.canvas.height = Math.round(clientHeight * this.density);
    if (this.papers) this.dress();
    else if (!this.loading) this.load();
  }

  // --- Drawing ---

  /** Draw before the screen is next refreshed. */
  change() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  /** Take the colours of the scheme. */
  dress() {
    const style = getComputedStyle(this.section);
    this.colours = Array.from({ length: COLOURS }, (_, i) => style.getPropertyValue(`--topic-${i}`).trim());
    this.ink = style.getPropertyValue("--body-text-color").trim();
    this.pen.fillStyle = getComputedStyle(this.box).backgroundColor;
    this.ground = this.pen.fillStyle; // now as #rrggbb
    this.inks = [this.shades(0.16), this.shades(1)];
    this.paper = pixel(this.ground);
    this.change();
  }

  /** Radius of a point in pixels: smaller where there are many, larger from near. */
  get radius() {
    const far = Math.max(1.6, Math.min(5, 75 / Math.sqrt(this.papers.ids.length)));
    return Math.round(Math.min(7, far * this.zoom ** 0.35) * 4) / 4;
  }

  /** Draw the two shapes of a point once: where their pixels lie from the first, and how much of each they cover. */
  stamp(radius, wide) {
    const r = radius * this.density, side = Math.ceil(2 * r) + 1;
    const inside = [(x, y) => Math.hypot(x, y) <= r, (x, y) => Math.abs(x) + Math.abs(y) <= 1.2 * r];
    const shapes = inside.map((holds) => {
      const offsets = [], shades = [];
      for (let at = 0; at < side * side; at++) {
        const px = at % side, py = (at - px) / side;
        let n = 0; // of 16 places within the pixel
        for (let k = 0; k < 16; k++) n += holds(px + (k % 4) / 4 + 0.125 - side / 2, py + (k >> 2) / 4 + 0.125 - side / 2);
        if (n) offsets.push(py * wide + px), shades.push(Math.ceil((n * SHADES) / 16) - 1);
      }
      return { offsets: Int32Array.from(offsets), shades: Uint8Array.from(shades) };
    });
    this.stamps = { radius, wide, side, shapes };
  }

  /** Return, for each topic, its colour in `SHADES` steps from the ground's, as pixels; `strength` is that of the last. */
  shades(strength) {
    return this.papers.names.map((_, topic) =>
      Uint32Array.from({ length: SHADES }, (_, step) =>
        pixel(this.colours[topic % COLOURS], this.ground, (strength * (step + 1)) / SHADES)));
  }

  draw() {
    if (!this.papers || !this.width || !this.canvas.isConnected) return;
    const { papers: { x, y, topic, lit }, radius } = this, { width, height } = this.canvas;
    const margin = Math.ceil(2 * radius * this.density) + 2; // what reaches over the edge is written there, not cut
    const wide = width + 2 * margin, high = height + 2 * margin;
    if (this.stamps?.radius !== radius || this.stamps.wide !== wide) this.stamp(radius, wide);
    if (this.image?.width !== wide || this.image.height !== high) this.image = new ImageData(wide, high);
    const pixels = new Uint32Array(this.image.data.buffer), { side, shapes } = this.stamps;
    const k = this.scale * this.density, half = side / 2 - margin;
    const left = width / 2 - this.x * k - half, top = height / 2 - this.y * k - half;
    pixels.fill(this.paper);
    for (const pass of this.papers.dimmed ? [0, 1] : [1]) {
      for (let i = 0; i < x.length; i++) {
        if (lit[i] !== pass) continue;
        const px = Math.round(x[i] * k + left), py = Math.round(y[i] * k + top);
        if (px < 0 || py < 0 || px + side > wide || py + side > high) continue;
        const { offsets, shades } = shapes[topic[i] < COLOURS ? 0 : 1], own = this.inks[pass][topic[i]];
        const at = py * wide + px;
        for (let j = 0; j < offsets.length; j++) pixels[at + offsets[j]] = own[shades[j]];
      }
    }
    this.pen.putImageData(this.image, -margin, -margin);
    this.label();
    this.point();
  }

  /** Write the topics' names at their middles, the larger topics first, none over another. */
  label() {
    const { pen, density } = this, taken = [];
    pen.save();
    pen.scale(density, density);
    pen.font = "600 13px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    for (const [topic, name] of this.papers.names.entries()) {
      if (this.topics.size && !this.topics.has(topic)) continue;
      const words = name.split(", ")[0], half = pen.measureText(words).width / 2 + 4;
      const [x, y] = this.toScreen(...this.papers.middles[topic]);
      if (x < 0 || y < 0 || x > this.width || y > this.height) continue;
      const middle = Math.max(half, Math.min(this.width - half, x));
      const free = [0, 20, -20, 40, -40].map((by) => ({ x: middle, y: Math.max(12, Math.min(this.height - 12, y + by)), half }))
        .find((own) => !taken.some((other) => Math.abs(own.x - other.x) < own.half + other.half && Math.abs(own.y - other.y) < 20));
      if (!free) continue;
      taken.push(free);
      pen.strokeStyle = this.ground;
      pen.strokeText(words, free.x, free.y);
      pen.fillStyle = this.ink;
      pen.fillText(words, free.x, free.y);
    }
    pen.restore();
  }

  /** Show the title of the paper that is pointed at. */
  point() {
    const i = this.near;
    this.tip.hidden = this.ring.hidden = i < 0;
    if (i < 0) return;
    const [x, y] = this.toScreen(this.papers.x[i], this.papers.y[i]);
    this.ring.style.transform = `translate(${x}px, ${y}px)`;
    this.ring.style.setProperty("--size", `${2 * this.radius + 8}px`);
    if (this.tip.dataset.paper !== String(i)) {
      const topic = document.createElement("small");
      topic.textContent = this.papers.names[this.papers.topic[i]];
      this.tip.replaceChildren(this.papers.titles[i] || "(no title)", topic);
      this.tip.dataset.paper = i;
    }
    const wide = this.tip.offsetWidth, high = this.tip.offsetHeight;
    const across = Math.max(4, Math.min(this.width - wide - 4, x - wide / 2));
    const down = y - high - 14 > 0 ? y - high - 14 : y + 14;
    this.tip.style.transform = `translate(${across}px, ${down}px)`;
  }

  /** Point at a paper, or at none. */
  pointAt(i) {
    if (i === this.near) return;
    this.near = i;
    this.canvas.style.cursor = i < 0 ? "" : "pointer";
    this.point();
  }

  /** Point at the paper nearest to the middle, for those who move the map by keys, and say it. */
  pointAtMiddle() {
    this.pointAt(this.papers.nearest(this.x, this.y, FOCUS_PX / this.scale));
    element("near").textContent = this.near < 0 ? "" : this.papers.titles[this.near];
  }

  open(i) {
    if (i >= 0) openSheet(`/page/paper?${new URLSearchParams({ id: this.papers.ids[i] })}`);
  }

  // --- Topics and titles ---

  light() {
    const text = element("find").value.trim();
    const n = this.papers.light(this.topics, text);
    element("matches").textContent = text ? `${n.toLocaleString("en")} ${n === 1 ? "title matches" : "titles match"}` : "";
    const first = [];
    for (let i = 0; text && i < this.papers.lit.length && first.length < OFFERED; i++) if (this.papers.lit[i]) first.push(i);
    element("matching").replaceChildren(...first.map((i) => {
      const item = document.createElement("li"), link = document.createElement("a");
      link.href = `/page/paper?${new URLSearchParams({ id: this.papers.ids[i] })}`;
      link.dataset.sheet = "";
      link.textContent = this.papers.titles[i] || "(no title)";
      item.append(link);
      return item;
    }));
    this.pointAt(-1);
    this.change();
  }

  toggle(button) {
    const topic = Number(button.dataset.topic);
    this.topics.delete(topic) || this.topics.add(topic);
    button.setAttribute("aria-pressed", this.topics.has(topic));
    this.light();
  }

  // --- What people do ---

  listen() {
    const { canvas } = this, at = (event) => [event.offsetX, event.offsetY];
    const when = (name, act, options) => canvas.addEventListener(name, (event) => this.papers && act(event), options);
    when("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, at(event));
      this.moved = this.pointers.size > 1 ? CLICK_PX : 0;
    });
    when("pointermove", (event) => {
      const before = this.pointers.get(event.pointerId), now = at(event);
      if (!before) return this.pointAt(this.papers.nearest(...this.toMap(...now), REACH_PX / this.scale));
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      this.pointers.set(event.pointerId, now);
      const share = other ? 2 : 1; // two fingers move the map by the way of their middle
      this.moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
      if (this.moved < CLICK_PX) return;
      this.pointAt(-1);
      this.pan((now[0] - before[0]) / share, (now[1] - before[1]) / share);
      if (!other) return;
      const apart = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
      this.zoomBy(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    });
    when("pointerup", (event) => {
      this.pointers.delete(event.pointerId);
      if (this.moved < CLICK_PX) this.open(this.papers.nearest(...this.toMap(...at(event)), REACH_PX / this.scale));
    });
    when("pointercancel", (event) => this.pointers.delete(event.pointerId));
    when("pointerleave", () => this.pointAt(-1));
    when("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 18 : 1);
      this.zoomBy(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));
    }, { passive: false });
    when("keydown", (event) => {
      const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (step) this.pan(step[0] * PAN_PX, step[1] * PAN_PX);
      else if (event.key === "+" || event.key === "=") this.zoomBy(ZOOM.step);
      else if (event.key === "-") this.zoomBy(1 / ZOOM.step);
      else if (event.key === "0") this.showAll();
      else if (event.key === "Enter") return this.open(this.near);
      else return;
      event.preventDefault();
      this.pointAtMiddle();
    });
    when("focus", () => canvas.matches(":focus-visible") && this.pointAtMiddle());
    when("blur", () => this.pointAt(-1));
    this.section.addEventListener("input", ({ target }) => target.id === "explore-find" && this.papers && this.light());
    this.section.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (!button || !this.papers) return;
      if (button.dataset.topic) this.toggle(button);
      if (button.dataset.zoom === "all") this.showAll();
      else if (button.dataset.zoom) this.zoomBy(button.dataset.zoom === "in" ? ZOOM.step : 1 / ZOOM.step);
    });
  }
}

let plane;
document.addEventListener("placed", ({ target }) => {
  if (!target.querySelector(":scope > #explore #explore-plane")) return;
  plane?.size.disconnect();
  plane = new Plane(element("map"));
});
new MutationObserver(() => plane?.papers && plane.dress()).observe(document.body, { attributeFilter: ["class"] });
