"use strict";

// --- tables that sort

// A cell's number, or its text: "1.3× [1.1, 1.6]" sorts by 1.3; what was missed is infinite.
function sortKey(cell) {
  const text = cell.textContent.trim();
  if (/^(missed|∞)/.test(text)) return Infinity;
  const number = text.replace(/(\d),(?=\d{3})/g, "$1").match(/^[-+−]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return number ? parseFloat(number[0].replace("−", "-")) : text.toLowerCase();
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a - b;
  if (typeof a === typeof b) return a.localeCompare(b);
  return typeof a === "number" ? -1 : 1;
}

function sortBy(table, column, heading) {
  const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((a, b) => sign * compare(sortKey(a.cells[column]), sortKey(b.cells[column])));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, column, heading));
  });
}

// --- learning curves

const COLORS = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#949494", "#56b4e9", "#ca9161"];
const DASHES = ["", "7 3", "2 3"];
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 708, 12, 336]; // the frame of the plot, in units of the drawing
const data = JSON.parse(document.getElementById("curve-data")?.textContent ?? "[]");
const chosen = (id) => document.getElementById(id).value;

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function shortNumber(value) {
  if (value === null || value === undefined) return "none";
  return Math.abs(value) >= 1e5 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

function listSchedules() {
  const names = Object.keys(data[chosen("task")].schedules);
  const box = document.getElementById("schedules");
  box.replaceChildren();
  names.forEach((name, place) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "checkbox";
    input.value = name;
    input.checked = place < 6 || names.length <= 8;
    const swatch = document.createElement("span");
    swatch.textContent = "■ ";
    swatch.setAttribute("aria-hidden", "true");
    swatch.style.color = COLORS[place % COLORS.length];
    label.append(input, " ", swatch, name);
    box.append(label);
  });
}

function curvesShown() {
  const task = data[chosen("task")];
  const names = Object.keys(task.schedules);
  const column = `${chosen("split")} ${chosen("measure")}`;
  return Array.from(document.querySelectorAll("#schedules input:checked")).map((input) => {
    const curve = task.schedules[input.value];
    const points = curve[chosen("clock")]
      .map((x, k) => [x, (curve[column] ?? [])[k] ?? null])
      .filter(([x, y]) => x !== null && y !== null);
    return { name: input.value, place: names.indexOf(input.value), points, runs: curve.runs };
  });
}

function span(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

function draw() {
  const plot = document.getElementById("plot");
  const curves = curvesShown().filter((curve) => curve.points.length);
  const label = (id) => document.getElementById(id).selectedOptions[0].textContent;
  const title = `${label("split")} ${label("measure")} over ${label("clock")}: ${label("task")}`;
  document.getElementById("plot-title").textContent = `${title}; ${curves.length} schedules.`;
  plot.replaceChildren();
  const frame = element("clipPath", { id: "frame" });
  frame.append(element("rect", { x: LEFT, y: TOP - 2, width: RIGHT - LEFT, height: BOTTOM - TOP + 4 }));
  plot.append(frame);
  const body = document.querySelector("#curve-table tbody");
  body.replaceChildren();
  if (!curves.length) return;
  const [left, right] = span(curves.flatMap((curve) => curve.points.map(([x]) => x)));
  // The first steps would take most of the height: it is for what comes after a tenth of a curve.
  const later = (points) => points.slice(Math.floor(points.length / 10));
  const [low, high] = span(curves.flatMap((curve) => later(curve.points).map(([, y]) => y)));
  const across = (x) => LEFT + ((x - left) / (right - left)) * (RIGHT - LEFT);
  const up = (y) => BOTTOM - ((y - low) / (high - low)) * (BOTTOM - TOP);
  for (let k = 0; k <= 4; k++) {
    const [x, y] = [left + (k / 4) * (right - left), low + (k / 4) * (high - low)];
    plot.append(element("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: up(y), y2: up(y) }));
    plot.append(element("text", { x: LEFT - 8, y: up(y) + 4, "text-anchor": "end" }, shortNumber(y)));
    plot.append(element("text", { x: across(x), y: BOTTOM + 20, "text-anchor": "middle" }, shortNumber(x)));
  }
  plot.append(element("text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 40, "text-anchor": "middle" }, label("clock")));
  for (const { name, place, points, runs } of curves) {
    const path = points.map(([x, y]) => `${across(x).toFixed(1)},${up(y).toFixed(1)}`).join(" ");
    const dash = DASHES[Math.floor(place / COLORS.length) % DASHES.length];
    const stroke = COLORS[place % COLORS.length];
    const line = element("polyline", { points: path, stroke, "stroke-dasharray": dash, "clip-path": "url(#frame)" });
    line.append(element("title", {}, name));
    plot.append(line);
    const row = body.insertRow();
    const last = points[points.length - 1];
    const cells = [name, shortNumber(last[0]), shortNumber(points[0][1]), shortNumber(last[1]), String(runs)];
    for (const text of cells) row.insertCell().textContent = text;
  }
}

if (data.length) {
  const task = document.getElementById("task");
  data.forEach((one, place) => task.add(new Option(`${one.where}: ${one.task}`, place)));
  task.addEventListener("change", () => { listSchedules(); });
  document.getElementById("explorer").addEventListener("change", draw);
  listSchedules();
  draw();
}
