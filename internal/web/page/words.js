
"use strict";
// What stands on the page: numbers, times and positions as people read them, and elements.
// Text only ever becomes text.

const $ = (id) => document.getElementById(id);

function make(ns, name, attributes, ...children) {
  const e = document.createElementNS(ns, name);
  for (const [key, value] of Object.entries(attributes || {})) e.setAttribute(key, value);
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
}
const el = (name, attributes, ...children) => make("http://www.w3.org/1999/xhtml", name, attributes, ...children);
const svg = (name, attributes, ...children) => make("http://www.w3.org/2000/svg", name, attributes, ...children);

// say changes a text only if it is another one.
function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

const number = (text) => text.split("/").reduce((high, low) => high * 2 ** 32 + parseInt(low, 16), 0);
const lsn = (n) => Math.floor(n / 2 ** 32).toString(16).toUpperCase() + "/" + (n % 2 ** 32).toString(16).toUpperCase();

function digits(n) {
  return n.toFixed(n >= 100 || Number.isInteger(n) ? 0 : 1);
}

// bytes as PostgreSQL counts them: a kB is 1024.
function bytes(n) {
  const units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return digits(i ? n : Math.round(n)) + "\u00a0" + units[i];
}

// span is a duration, in its two largest units.
function span(seconds) {
  if (seconds < 10) return (Math.round(seconds * 10) / 10).toFixed(seconds && seconds < 9.95 ? 1 : 0) + "\u00a0s";
  let s = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    if (parts.length < 2 && (s >= size || (parts.length && size > 1 && s))) parts.push(Math.floor(s / size) + "\u00a0" + unit);
    s %= size;
  }
  return parts.filter((p) => !p.startsWith("0\u00a0")).join(" ");
}

// brief is a duration, in its largest unit.
const brief = (seconds) => span(seconds).split(" ")[0];

const clock = (t) => new Date(t).toISOString().slice(11, 19);
const utc = (t) => new Date(t).toISOString().slice(0, 19).replace("T", " ") + " UTC";
const count = (n, thing) => n + " " + thing + (n === 1 ? "" : "s");

// now is the receiver's time, which need not be this computer's.
let now = Date.now();
const since = (t) => brief(Math.max(0, (now - new Date(t)) / 1000));
const ago = (t) => since(t) + " ago";
const when = (t) => utc(t) + " (" + ago(t) + ")";
