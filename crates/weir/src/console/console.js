// The console's only script. The server renders the page, also each live change; this puts it in place and draws the
// two charts. No libraries, no addresses but our own.
"use strict";

const BUCKET_MS = 100, KEPT_MS = 300_000, LOST_AFTER_MS = 3000;
const find = (id) => document.getElementById(id);
const count = (n) => n >= 1e6 ? (n / 1e6).toPrecision(3) + " M" : n >= 1e4 ? (n / 1e3).toPrecision(3) + " k" : Math.round(n).toLocaleString("en-US");
const clock = (ms) => new Date(ms).toISOString().slice(11, 19);

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const buckets = new Map();
let last = null, heard = performance.now(), minutes = 1, pointer = null, drawn = 0;

// Makes `old` look like `fresh` and touches only what differs, so that focus, selection and scrolling stay.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) return old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("data-keep")) return;
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  const parts = [...fresh.childNodes];
  while (old.childNodes.length > parts.length) old.lastChild.remove();
  parts.forEach((part, place) => place < old.childNodes.length ? morph(old.childNodes[place], part) : old.append(part));
}

// A drawing surface in CSS pixels with sharp lines, and the page's colours.
function surface(canvas) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  const colour = (name) => style.getPropertyValue("--" + name).trim();
  return { pen, width, height, colour, left: 46, right: width - 6, top: 14, bottom: height - 20 };
}

// The next 1, 2, 2.5 or 5 times a power of ten: a scale that can be read, and does not jump at each change.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(10, value)));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

// Times that a label may stand at, in seconds; a label needs some pixels.
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600], LABEL_PIXELS = 76;

function axes({ pen, colour, left, right, top, bottom }, most, from, to, strong) {
  const room = (to - from) * LABEL_PIXELS / (right - left);
  const step = 1000 * STEPS.find((seconds) => seconds * 1000 >= room || seconds === 600);
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (let part = 0; part <= 4; part++) {
    const y = Math.round(bottom - (bottom - top) * part / 4) + .5;
    pen.strokeStyle = colour(part ? "grid" : "line");
    pen.beginPath(); pen.moveTo(left, y); pen.lineTo(right, y); pen.stroke();
    pen.fillStyle = colour("soft");
    if (part % 2 === 0) pen.fillText(count(most * part / 4), left - 6, y);
  }
  pen.textBaseline = "alphabetic";
  pen.textAlign = "center";
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const x = left + (right - left) * (at - from) / (to - from);
    const isStrong = at === strong;
    pen.strokeStyle = colour(isStrong ? "soft" : "line");
    pen.beginPath(); pen.moveTo(Math.round(x) + .5, isStrong ? top : bottom); pen.lineTo(Math.round(x) + .5, bottom + 4); pen.stroke();
    pen.fillStyle = colour(isStrong ? "ink" : "soft");
    if (x > left + 22 && x < right - 22) pen.fillText(clock(at), x, bottom + 16);
  }
}

// Columns without gaps, on whole pixels: neighbours become one shape, and nothing shimmers as it moves.
function bars({ pen, left, top, bottom }, values, most, step) {
  values.forEach((value, place) => {
    if (!value) return;
    const x = Math.round(left + place * step), tall = Math.max(1, Math.round((bottom - top) * value / most));
    pen.fillRect(x, bottom - tall, Math.max(1, Math.round(left + (place + 1) * step) - x), tall);
  });
}

// A line and a label where the pointer is.
function hover(canvas, { pen, colour, left, right, top, bottom }, text) {
  if (!pointer || pointer.canvas !== canvas || pointer.x < left || pointer.x > right) return;
  const label = text((pointer.x - left) / (right - left));
  if (!label) return;
  pen.strokeStyle = colour("soft");
  pen.beginPath(); pen.moveTo(pointer.x + .5, top); pen.lineTo(pointer.x + .5, bottom); pen.stroke();
  const wide = pen.measureText(label).width + 12, x = Math.min(pointer.x + 8, right - wide);
  pen.fillStyle = colour("card");
  pen.fillRect(x, top + 2, wide, 18);
  pen.strokeRect(x + .5, top + 2.5, wide, 18);
  pen.fillStyle = colour("ink");
  pen.textAlign = "left";
  pen.fillText(label, x + 6, top + 15);
}

function drawChart(canvas, nowMs) {
  const area = surface(canvas), { pen, colour, left, right, top, bottom } = area;
  const to = Math.floor(nowMs / BUCKET_MS) * BUCKET_MS, from = to - minutes * 60_000;
  const slots = minutes * 60_000 / BUCKET_MS, pixels = Math.max(1, Math.floor(right - left)), columns = Math.min(slots, pixels);
  const highest = new Float64Array(columns);
  let peak = 0, sum = 0;
  for (const [at, value] of buckets) {
    const slot = (at - from) / BUCKET_MS;
    if (slot < 0 || slot >= slots) continue;
    const column = Math.floor(slot * columns / slots);
    highest[column] = Math.max(highest[column], value);
    peak = Math.max(peak, value);
    sum += value;
  }
  const most = ceiling(peak), step = (right - left) / columns;
  axes(area, most, from, to);
  pen.fillStyle = colour("main");
  bars(area, highest, most, step);
  if (!sum) {
    pen.fillStyle = colour("soft");
    pen.textAlign = "center";
    pen.fillText("nothing was written in this time", (left + right) / 2, (top + bottom) / 2);
  }
  hover(canvas, area, (part) => {
    const at = from + Math.floor(part * slots) * BUCKET_MS;
    return clock(at) + "." + (at % 1000 / 100) + "  " + count(buckets.get(at) || 0) + " entries";
  });
  const text = "peak " + count(peak) + " in 100 ms, " + count(sum) + " in the last " + (minutes === 1 ? "minute" : minutes + " minutes");
  find("peak").textContent = text;
  canvas.setAttribute("aria-label", "Entries per 100 ms: " + text);
}

function drawPlay(canvas, play) {
  const area = surface(canvas), { pen, colour, left, right, top, bottom } = area;
  const slots = play.sent_by_bucket.length, from = play.first_ms, to = from + slots * play.bucket_ms;
  const most = ceiling(Math.max(...play.sent_by_bucket, ...play.counted_by_bucket)), step = (right - left) / Math.max(1, slots);
  axes(area, most, from, to, play.midnight_ms);
  const y = (value) => bottom - (bottom - top) * value / most;
  pen.fillStyle = colour("main");
  bars(area, play.counted_by_bucket, most, step);
  pen.strokeStyle = colour("mark");
  pen.lineWidth = 1.25;
  pen.beginPath();
  let isDown = false;
  play.sent_by_bucket.forEach((value, place) => {
    if (!value) return void (isDown = false);
    const x = left + place * step;
    isDown ? pen.lineTo(x, y(value)) : pen.moveTo(x, y(value));
    pen.lineTo(x + step, y(value));
    isDown = true;
  });
  pen.stroke();
  pen.lineWidth = 1;
  hover(canvas, area, (part) => {
    const place = Math.min(slots - 1, Math.floor(part * slots)), at = from + place * play.bucket_ms;
    return clock(at) + "." + (at % 1000 / 100) + "  sent " + count(play.sent_by_bucket[place]) + ", counted " + count(play.counted_by_bucket[place]);
  });
  canvas.setAttribute("aria-label", "Messages per 100 ms around midnight: sent " + play.sent + ", counted from the log " + play.counted);
}

function draw() {
  if (!last) return;
  drawn = performance.now();
  const now = last.now_ms + (isLost() ? 0 : drawn - heard);
  if (find("chart")) drawChart(find("chart"), now);
  if (find("play") && last.play) drawPlay(find("play"), last.play);
}

function show(change) {
  if (last && last.started_ms !== change.started_ms) buckets.clear();
  for (const [at, value] of change.buckets) buckets.set(at, value);
  for (const at of buckets.keys()) if (at < change.now_ms - KEPT_MS) buckets.delete(at);
  last = change;
  heard = performance.now();
  document.title = change.title;
  const fresh = document.createElement("div");
  fresh.innerHTML = change.board;
  const old = find("board"), parts = [...fresh.childNodes];
  while (old.childNodes.length > parts.length) old.lastChild.remove();
  parts.forEach((part, place) => place < old.childNodes.length ? morph(old.childNodes[place], part) : old.append(part));
  lose(false);
  // With reduced motion the charts change once a second, else with each change.
  if (!calm.matches || performance.now() - drawn > 950) draw();
}

const isLost = () => performance.now() - heard > LOST_AFTER_MS;

function lose(isSo) {
  const notice = find("lost");
  if (notice.hidden !== isSo) return;
  notice.hidden = !isSo;
  document.body.classList.toggle("stale", isSo);
  if (isSo) {
    const since = last ? " These figures are those of " + clock(last.now_ms) + " UTC." : "";
    notice.textContent = "Weir does not answer: the process has ended, or this browser cannot reach it." + since + " Trying again.";
    document.title = "No answer · Weir";
  }
}

let events = null;
function listen() {
  if (events) events.close();
  events = new EventSource("/events");
  events.onmessage = (event) => show(JSON.parse(event.data));
  events.onerror = () => { if (events.readyState === EventSource.CLOSED) setTimeout(listen, 1000); };
}
listen();
// A process that is stopped but not dead keeps the connection and says nothing: silence counts as lost too.
setInterval(() => { if (isLost()) lose(true); }, 500);

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-minutes]");
  if (!button) return;
  minutes = Number(button.dataset.minutes);
  for (const one of button.parentElement.children) one.setAttribute("aria-pressed", String(one === button));
  draw();
});
document.addEventListener("pointermove", (event) => {
  const canvas = event.target.closest("canvas");
  const had = pointer;
  pointer = canvas && { canvas, x: event.clientX - canvas.getBoundingClientRect().left };
  if (had || pointer) draw();
});
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
