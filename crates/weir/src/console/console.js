// The console's only script: takes a picture four times a second and draws it. No libraries.
"use strict";
const find = (id) => document.getElementById(id);
const count = (n) => n >= 1e9 ? (n / 1e9).toFixed(2) + " G" : n >= 1e6 ? (n / 1e6).toFixed(2) + " M" : n >= 1e4 ? (n / 1e3).toFixed(1) + " k" : String(Math.round(n));
const bytes = (n) => n >= 1 << 30 ? (n / (1 << 30)).toFixed(2) + " GiB" : n >= 1 << 20 ? (n / (1 << 20)).toFixed(1) + " MiB" : n >= 1 << 10 ? (n / 1024).toFixed(1) + " KiB" : Math.round(n) + " B";
const ago = (ms) => {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  return ms === 0 ? "never" : seconds < 600 ? seconds.toFixed(1) + " s ago" : new Date(ms).toISOString().replace("T", " ").slice(0, 21);
};

let before = null;

function rows(table, heads, lines) {
  const element = find(table);
  element.replaceChildren();
  const line = (tag, cells) => {
    const row = document.createElement("tr");
    cells.forEach((cell, place) => {
      const box = document.createElement(tag);
      box.textContent = cell;
      if (heads[place].endsWith("#")) box.className = "n";
      row.append(box);
    });
    element.append(row);
  };
  line("th", heads.map((head) => head.replace("#", "")));
  lines.forEach((cells) => line("td", cells));
  if (lines.length === 0) line("td", heads.map((_, place) => place === 0 ? "none" : ""));
}

function draw(buckets) {
  const canvas = find("chart"), scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale; canvas.height = height * scale;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  pen.scale(scale, scale);
  const top = Math.max(10, ...buckets), columns = 600, step = width / columns;
  pen.strokeStyle = style.getPropertyValue("--line"); pen.fillStyle = style.getPropertyValue("--soft"); pen.font = "11px system-ui";
  for (let part = 1; part <= 4; part++) {
    const y = height - (height - 14) * part / 4;
    pen.beginPath(); pen.moveTo(0, y); pen.lineTo(width, y); pen.stroke();
    pen.fillText(count(top * part / 4), 4, y - 3);
  }
  pen.fillStyle = style.getPropertyValue("--main");
  buckets.forEach((value, place) => {
    const x = width - (buckets.length - place) * step, tall = (height - 14) * value / top;
    pen.fillRect(x, height - tall, Math.max(1, step - 0.4), tall);
  });
  find("peak").textContent = "· peak " + count(Math.max(0, ...buckets));
}

function tile(name, value) {
  const box = document.createElement("div"), bold = document.createElement("b"), text = document.createElement("span");
  box.className = "tile"; bold.textContent = value; text.textContent = name;
  box.append(bold, text);
  return box;
}

function show(picture) {
  const now = performance.now(), total = (key) => picture.captures.reduce((sum, one) => sum + one[key], 0);
  const rate = (key, value) => before && before[key] !== undefined ? (value - before[key]) / ((now - before.at) / 1000) : 0;
  const seen = { at: now, entries: total("entries"), bytes: total("bytes") };
  find("tiles").replaceChildren(
    tile("entries a second", count(rate("entries", seen.entries))), tile("bytes a second", bytes(rate("bytes", seen.bytes))),
    tile("entries taken", count(seen.entries)), tile("cells taken", count(total("cells"))),
    tile("calls answered OK", count(total("done"))), tile("calls to come again", count(total("again") + total("late"))));
  draw(picture.buckets);
  find("flight").textContent = "· " + bytes(picture.in_flight_bytes) + " of " + bytes(picture.in_flight_bytes_max) + (picture.readers_waiting ? " · " + picture.readers_waiting + " sockets wait" : "");
  find("used").style.width = (100 * picture.in_flight_bytes / picture.in_flight_bytes_max) + "%";
  rows("sources", ["capture", "region server", "HBase", "connections#", "calls#", "entries#", "bytes#", "last write#"],
    picture.captures.flatMap((one) => one.sources.map((source) => [one.name, source.address, source.version || "?", source.connections, count(source.calls), count(source.entries), bytes(source.bytes), ago(source.last_write_ms)])));
  const tables = picture.captures.flatMap((one) => Object.entries(one.tables).map(([name, table]) => [one.name, name, table]));
  rows("tables", ["capture", "table", "topic", "entries#", "cells#", "entries/s#", "bytes/s#", "last write#"], tables.map(([capture, name, table]) => {
    const key = capture + "/" + name;
    seen[key + "e"] = table.entries; seen[key + "b"] = table.bytes;
    return [capture, name, table.topic, count(table.entries), count(table.cells), count(rate(key + "e", table.entries)), bytes(rate(key + "b", table.bytes)), ago(table.last_write_ms)];
  }));
  rows("faults", ["capture", "what", "count#", "last"], picture.captures.flatMap((one) => [
    ...Object.entries(one.faults).map(([code, [times, text]]) => [one.name, code, count(times), text]),
    ...Object.entries(one.refused).filter(([, times]) => times > 0).map(([why, times]) => [one.name, "refused: " + why, count(times), ""]),
    ...(one.overlaps ? [[one.name, "overlapping retries", count(one.overlaps), ""]] : [])]));
  const troubles = picture.captures.map((one) => one.trouble).filter(Boolean);
  find("state").textContent = troubles.length ? troubles.join("; ") : picture.captures.length + " capture" + (picture.captures.length === 1 ? "" : "s") + " running";
  find("state").className = troubles.length ? "bad" : "good";
  before = seen;
}

const events = new EventSource("/events");
events.onmessage = (event) => show(JSON.parse(event.data));
events.onerror = () => { find("state").textContent = "not connected"; find("state").className = "bad"; };
