
// The drawings. Each has a text beside it that says the same.

const hatch = (id, name) => svg("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
  svg("line", { class: name, x1: 0, y1: 0, x2: 0, y2: 6 }));

// chart draws an hour: series of {values, kind}, with bands where nothing was streamed.
function chart(e, hour, series, top, label) {
  const width = Math.max(240, e.clientWidth), height = 132, left = 62, bottom = 18, over = 8;
  const n = hour.streaming.length, end = new Date(hour.end);
  const minutes = [10, 20, 40, 60].find((m) => n * hour.step_seconds <= m * 60) || 60, steps = minutes * 60 / hour.step_seconds;
  const x = (i) => left + (width - left - 1) * (steps - n + i) / steps;
  const y = (v) => height - bottom - (height - bottom - over) * Math.min(v, top) / top;
  const parts = [svg("defs", {}, hatch("hatch", "hatch"))];
  for (const v of [0, top / 2, top]) {
    parts.push(svg("line", { class: "grid", x1: left, x2: width, y1: y(v), y2: y(v) }));
    parts.push(svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, v ? label(v) : "0"));
  }
  for (const part of [0, 0.5, 1]) {
    const at = x(n - steps * (1 - part));
    parts.push(svg("text", { x: at, y: height - 3, "text-anchor": ["start", "middle", "end"][2 * part] }, clock(end - minutes * 60000 * (1 - part)).slice(0, 5)));
  }
  for (let i = 0; i < n; i++) {
    if (hour.streaming[i]) continue;
    let to = i;
    while (to + 1 < n && !hour.streaming[to + 1]) to++;
    parts.push(svg("rect", { class: "away", x: x(i), width: Math.max(2, x(to + 1) - x(i)), y: over, height: height - bottom - over }));
    i = to;
  }
  for (const { values, kind } of series) {
    let line = "", from = -1;
    const close = (to) => {
      if (from >= 0 && kind === "area") parts.push(svg("path", { class: "area", d: line + `L${x(to)} ${y(0)}L${x(from)} ${y(0)}Z` }));
      if (from >= 0) parts.push(svg("path", { class: kind === "dashed" ? "edge dashed" : "edge", d: line }));
      from = -1;
    };
    values.forEach((v, i) => {
      if (v === null) return close(i);
      line = (from < 0 ? `M${x(i)} ${y(v)}` : line + `L${x(i)} ${y(v)}`) + `L${x(i + 1)} ${y(v)}`;
      if (from < 0) from = i;
    });
    close(values.length);
  }
  e.setAttribute("viewBox", `0 0 ${width} ${height}`);
  e.replaceChildren(...parts);
}

// round is the next number above that is easy to read.
function round(n, base) {
  for (let unit = 1; ; unit *= base) {
    for (const step of base === 1024 ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] : [1, 2, 5]) if (n <= unit * step) return unit * step;
  }
}

// timelines draws what an archive holds. Lengths are compressed, so that what is short can
// be seen beside what is long; order and places are kept.
function timelines(e, status, live) {
  const lines = status.timelines.slice(-8), shown = new Set(lines.map((t) => t.timeline));
  const size = status.wal_segment_size, width = Math.max(280, e.clientWidth), label = width < 500 ? 0 : 86, row = label ? 46 : 54, pad = 8;
  const spans = [], ends = new Map();
  const add = (kind, timeline, from, to, more) => { if (shown.has(timeline)) spans.push({ kind, timeline, from, to, ...more }); };
  for (const t of lines) {
    const from = t.parent_timeline && t.fork_lsn ? number(t.fork_lsn) : 0;
    for (const r of t.ranges.slice(-12)) add("held", t.timeline, Math.max(from, number(r.start_lsn)), number(r.end_lsn));
    // What a timeline has behind its last complete segment when it is left is a partial.
    const child = lines.find((c) => c.parent_timeline === t.timeline && c.fork_lsn), last = t.ranges[t.ranges.length - 1];
    if (t.partials && child && last && number(child.fork_lsn) - number(last.end_lsn) < size) add("tail", t.timeline, number(last.end_lsn), Math.max(number(last.end_lsn), number(child.fork_lsn)));
    if (t.tail) add("tail", t.timeline, Math.max(from, number(t.tail.start_lsn)), number(t.tail.end_lsn));
  }
  for (const g of status.gaps.slice(-24)) add("gap", g.timeline, number(g.start_lsn), number(g.end_lsn), { words: g.accepted ? "gap, accepted" : g.arriving ? "arriving" : "gap" });
  if (!spans.length) return false;
  for (const s of spans) ends.set(s.timeline, Math.max(ends.get(s.timeline) || 0, s.to));
  const marks = [];
  for (const b of status.backups.slice(-12)) if (b.start_lsn && shown.has(b.timeline)) marks.push({ at: number(b.start_lsn), timeline: b.timeline, good: b.state === "good" });
  for (const p of status.restore_points.slice(-12)) if (shown.has(p.timeline)) marks.push({ at: number(p.lsn), timeline: p.timeline, point: true });

  const places = new Set();
  for (const s of spans) places.add(s.from).add(s.to);
  for (const t of lines) if (t.fork_lsn) places.add(number(t.fork_lsn));
  const low = Math.min(...spans.map((s) => s.from)), high = Math.max(...places);
  const clip = (n) => Math.min(high, Math.max(low, n));
  for (const w of status.recoverable) places.add(clip(number(w.start_lsn))).add(clip(number(w.end_lsn)));
  for (const m of marks) places.add(clip(m.at));
  const order = [...places].filter((p) => p >= low).sort((a, b) => a - b);
  const sums = [0];
  for (let i = 1; i < order.length; i++) sums.push(sums[i - 1] + 0.6 + Math.log2(1 + (order[i] - order[i - 1]) / size));
  const x = (n) => label + pad + (width - label - 2 * pad - 14) * (sums[order.indexOf(clip(n))] || 0) / (sums[sums.length - 1] || 1);

  const row0 = label ? 30 : 36, y = (timeline) => row0 + row * lines.findIndex((t) => t.timeline === timeline), height = row0 + row * lines.length + 6;
  const parts = [svg("defs", {}, hatch("gaphatch", "hatch"), svg("pattern", { id: "dots", width: 4, height: 4, patternUnits: "userSpaceOnUse" }, svg("circle", { class: "dot", cx: 2, cy: 2, r: 0.9 })))];
  // Where a timeline was left on the way to the newest one; one that does not lead there is
  // all left behind.
  const leftAt = (timeline) => {
    const child = lines.find((t) => t.parent_timeline === timeline && onWay(lines, t.timeline));
    return child ? number(child.fork_lsn) : onWay(lines, timeline) ? Infinity : 0;
  };
  for (const t of lines) {
    const top = y(t.timeline);
    parts.push(svg("text", { class: "ink", x: label ? 0 : pad, y: label ? top + 12 : top - 4 }, "timeline " + t.timeline));
    if (t.fork_lsn) {
      const at = x(number(t.fork_lsn)), parent = shown.has(t.parent_timeline) ? y(t.parent_timeline) + 15 : top - 20;
      parts.push(svg("path", { class: "fork", d: `M${at} ${parent}V${top + 7}h6` }));
    }
  }
  for (const s of spans) {
    const top = y(s.timeline), left = leftAt(s.timeline);
    const bar = (name, from, to) => { if (to > from) parts.push(svg("rect", { class: name, x: x(from), width: Math.max(2, x(to) - x(from)), y: top + 2, height: 12, rx: 1.5 })); };
    if (s.kind !== "held") bar(s.kind, s.from, s.to);
    else {
      bar("held", s.from, Math.min(s.to, left));
      bar("left", Math.max(s.from, left), s.to);
    }
  }
  for (const s of spans) if (s.kind === "gap") parts.push(svg("text", { class: "ink", x: (x(s.from) + x(s.to)) / 2, y: y(s.timeline) - 3, "text-anchor": "middle" }, s.words));
  for (const m of marks) {
    const at = x(m.at), top = y(m.timeline);
    if (m.point) parts.push(svg("path", { class: "point", d: `M${at} ${top - 8}l4 4l-4 4l-4 -4z` }));
    else parts.push(svg("path", { class: m.good ? "base" : "base no", d: `M${at} ${top + 17}l5 8h-10z` }));
  }
  for (const w of status.recoverable) {
    if (!shown.has(w.timeline) || !onWay(lines, w.timeline)) continue;
    const from = x(number(w.start_lsn)), to = Math.max(from + 4, x(number(w.end_lsn)));
    parts.push(svg("path", { class: "window", d: `M${from} ${height - 10}v5H${to}v-5` }));
  }
  if (live && shown.has(live.timeline)) {
    const at = x(ends.get(live.timeline) || high), top = y(live.timeline);
    parts.push(svg("path", { class: "head", d: `M${at + 4} ${top + 3}l6 5l-6 5` }));
  }
  let free = -Infinity;
  for (const [at, anchor] of [[low, "start"], ...lines.filter((t) => t.fork_lsn).map((t) => [number(t.fork_lsn), "middle"]), [high, "end"]]) {
    const text = lsn(at), wide = text.length * 6.8, from = x(at) - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0);
    if (from < free || (anchor !== "end" && from + wide > width - lsn(high).length * 6.8 - 20)) continue;
    free = from + wide + 10;
    parts.push(svg("text", { class: "mono", x: x(at), y: 10, "text-anchor": anchor }, text));
  }
  e.setAttribute("viewBox", `0 0 ${width} ${height}`);
  e.setAttribute("height", height);
  e.replaceChildren(...parts);
  return true;
}

// onWay tells whether a timeline leads to the newest one.
function onWay(lines, timeline) {
  for (let t = lines[lines.length - 1]; t; t = lines.find((p) => p.timeline === t.parent_timeline)) if (t.timeline === timeline) return true;
  return false;
}
