
// The page asks once a second where the receiver is, while somebody looks.

const every = 1000, hourEvery = 10000, statusEvery = 60000, patience = 8000;
const known = { live: null, before: null, hour: null, status: null };
let heard = 0, lost = false, asking = false, hourAt = 0, statusAt = 0;

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(patience) });
  if (!answer.ok) throw new Error(path + ": " + answer.status);
  return answer.json();
}

const signs = {
  ok: ["M12 2.5a9.5 9.5 0 1 0 .01 0z", "M7.5 12.5l3 3l6-7"],
  standby: ["M12 2.5a9.5 9.5 0 1 0 .01 0z", "M9.5 8.5v7", "M14.5 8.5v7"],
  warn: ["M12 3L22 20.5H2z", "M12 10v5", "M12 17.8v.2"],
  bad: ["M8 2.5h8L21.5 8v8L16 21.5H8L2.5 16V8z", "M8.5 8.5l7 7", "M15.5 8.5l-7 7"],
  unknown: ["M12 2.5a9.5 9.5 0 1 0 .01 0z"],
};
signs.lost = signs.bad;

function wrongs() {
  const { live, status } = known, list = [];
  if (lost) list.push({ what: "this page does not hear from the receiver since " + (heard ? utc(heard) : "it was opened"), do: "It asks again by itself. See that walrecv runs; what is below is from then." });
  if (live) list.push(...live.problems);
  if (status && status.archive_error) list.push({ what: "the archive could not be looked at: " + status.archive_error, do: (status.as_of ? "What is shown of it is from " + utc(status.as_of) + ". " : "") + "It is tried again while this page is open." });
  if (status && status.problems) list.push(...status.problems);
  return list;
}

function verdict() {
  const { live } = known, list = wrongs();
  const state = lost ? "lost" : !live ? "unknown" : !live.ready ? "bad" : list.length ? "warn" : live.streaming ? "ok" : "standby";
  let words = "Asking the receiver";
  if (lost) words = "The receiver does not answer";
  else if (live) {
    words = !live.streaming ? (live.status[0].startsWith("waiting") ? "Waiting for the slot, to take over" : "Not streaming")
      : live.paused_since ? "Streaming is paused"
      : live.status[0] !== "streaming" ? "Streaming, behind the server"
      : !live.archive ? "Streaming"
      : live.archiving && (live.ready || live.status.length < 2) ? "Streaming and archiving" : "Streaming, not archiving";
    if (list.length && /^Streaming( and archiving)?$/.test(words)) words += list.length > 1 ? "; " + list.length + " things are wrong" : "; one thing is wrong";
  }
  $("verdict").dataset.state = $("wrong").dataset.state = state;
  if ($("sign").dataset.state !== state) {
    $("sign").dataset.state = state;
    $("sign").replaceChildren(...signs[state].map((d) => svg("path", { d })));
  }
  say($("headline"), words);
  document.title = (state === "ok" || state === "standby" ? "" : "! ") + words + " - walrecv";
  $("wrong").hidden = !list.length;
  const items = $("problems");
  while (items.children.length > list.length) items.lastChild.remove();
  list.forEach((p, i) => {
    const item = items.children[i] || items.appendChild(el("li", {}, el("b"), el("span")));
    say(item.firstChild, p.what);
    say(item.lastChild, p.do);
  });
  // Said aloud when something else is wrong, and not because time goes by.
  const still = (text) => text.replace(/\d[\d.]*(\s?(ms|s|min|h|d|m|%)\b)?/g, "");
  const news = words + list.map((p) => ". " + p.what).join("");
  if (live && still(news) !== still($("said").textContent)) $("said").textContent = news;
  document.body.classList.toggle("lost", lost);
}

function subline() {
  const { live } = known;
  if (!live) return "";
  if (lost) return "What is below is what it said last.";
  if (!live.received_lsn) return "Nothing was received yet.";
  const place = live.archive ? "The archive" : "This machine", stage = live.archive ? "archived" : "flushed";
  const behind = live.lag_bytes[stage], silent = live.streaming ? "" : " What the server has written since is not known.";
  if (behind === undefined) return live.archive ? "How much of it the archive holds is not known yet." : "";
  if (!behind) return place + " holds all that the server is known to have written." + silent;
  const seconds = live.lag_seconds[stage];
  return place + " holds all but the last " + bytes(behind) + (seconds ? ", " + span(seconds) : "") + "." + silent;
}

function rate() {
  const { live, before } = known;
  if (!live || !before) return null;
  const seconds = (new Date(live.time) - new Date(before.time)) / 1000;
  return seconds > 0 && live.started === before.started ? (live.wal_bytes_total - before.wal_bytes_total) / seconds : null;
}

function figures() {
  const { live, status } = known, list = [];
  const speed = rate();
  list.push(["Receiving", speed === null ? "–" : bytes(Math.max(0, Math.round(speed))) + "/s", bytes(live.wal_bytes_total) + " in all"]);
  if (live.spool_bytes !== undefined) list.push(["Directory", bytes(live.spool_bytes), live.spool_max_bytes ? "of at most " + bytes(live.spool_max_bytes) : "keeps every segment"]);
  if (live.oldest_unarchived_seconds !== undefined) list.push(["Not archived yet", live.oldest_unarchived_seconds ? "for " + span(live.oldest_unarchived_seconds) : "nothing", live.oldest_unarchived_seconds ? "the oldest of it" : ""]);
  if (live.slot) list.push(["Slot holds back", bytes(live.slot.retained_bytes), (live.slot.wal_status || "nothing") + (live.slot.safe_wal_bytes === undefined ? "" : ", lost after another " + bytes(Math.max(0, live.slot.safe_wal_bytes)))]);
  if (status && status.recoverable) {
    const last = status.recoverable[status.recoverable.length - 1];
    list.push(["Recoverable", last ? (last.start_time ? since(last.start_time) + " back" : "yes") : "nothing yet", last ? "on timeline " + last.timeline : "it takes a base backup"]);
    const good = status.backups.filter((b) => b.state === "good").pop();
    list.push(["Base backup", good ? ago(good.finished) : "none yet", good ? bytes(good.plain_size || 0) : "walrecv backup create"]);
    const d = status.last_drill;
    list.push(["Restore drill", !d ? "none yet" : d.success ? "passed" : "failed", d ? ago(d.finished) : "walrecv drill"]);
  }
  const dl = $("figures").firstElementChild;
  while (dl.children.length > list.length) dl.lastChild.remove();
  list.forEach(([name, value, more], i) => {
    const e = dl.children[i] || dl.appendChild(el("div", {}, el("dt"), el("dd", {}, el("span"), el("small"))));
    say(e.firstChild, name);
    say(e.lastChild.firstChild, value);
    say(e.lastChild.lastChild, more);
  });
}

const stages = [
  ["server", "Server", "where it says it is"],
  ["received", "Received", "over the connection"],
  ["written", "Written", "to the directory"],
  ["flushed", "Flushed", "durable on this machine"],
  ["sealed", "Sealed", "in complete segments"],
  ["archived", "Archived", "in the archive"],
];

function positions() {
  const { live } = known, body = $("positions").tBodies[0];
  const there = stages.filter(([stage]) => live[stage + "_lsn"] || (stage === "archived" && live.archive));
  const at = there.map(([stage]) => live[stage + "_lsn"] ? number(live[stage + "_lsn"]) : 0).filter((n) => n);
  const size = live.wal_segment_size || 16 * 2 ** 20;
  const low = at.length ? Math.floor((Math.min(...at) - 1) / size) * size : 0, high = at.length ? Math.max(low + size, Math.ceil(Math.max(...at) / size) * size) : size;
  const segments = (high - low) / size, ticks = [];
  for (let i = 1; i < segments && segments <= 40; i++) ticks.push(i * 1000 / segments);
  if (body.children.length !== there.length) {
    body.replaceChildren(...there.map(([stage, name, meaning]) => el("tr", { id: "at-" + stage },
      el("th", { scope: "row" }, name, " ", el("small", {}, meaning)), el("td", { class: "mono" }), el("td", { class: "n", "data-name": "behind" }), el("td", { class: "n", "data-name": "for" }),
      el("td", { class: "track", "aria-hidden": "true" }, svg("svg", { viewBox: "0 0 1000 14", preserveAspectRatio: "none" })))));
  }
  there.forEach(([stage], i) => {
    const [, position, behind, time, track] = body.children[i].children, text = live[stage + "_lsn"];
    say(position, text || "not known yet");
    const less = live.lag_bytes[stage], seconds = live.lag_seconds[stage];
    say(behind, less === undefined ? "" : less ? bytes(less) : "level");
    say(time, !seconds ? "" : live.streaming || less ? span(seconds) : "heard " + span(seconds) + " ago");
    const end = text ? 1000 * (number(text) - low) / (high - low) : 0;
    track.firstChild.replaceChildren(svg("rect", { class: "bed", width: 1000, height: 14 }), svg("rect", { class: stage === "server" ? "server" : "bar", width: end, y: 3, height: 8 }),
      ...ticks.map((x) => svg("line", { class: "tick", x1: x, x2: x, y1: 0, y2: 14 })));
  });
  if (at.length) $("ruler").replaceChildren(el("span", {}, lsn(low)), el("span", {}, segments > 1 ? count(segments, "segment") : "one segment"), el("span", {}, lsn(high)));
}

function hour() {
  const { hour, live } = known;
  if (!hour) return;
  const speeds = hour.wal_bytes.map((n) => n / hour.step_seconds), peak = Math.max(0, ...speeds), all = hour.wal_bytes.reduce((a, b) => a + b, 0);
  const time = (i) => clock(new Date(hour.end) - (hour.streaming.length - i) * hour.step_seconds * 1000).slice(0, 5);
  const away = hour.streaming.filter((s) => !s).length;
  let words = bytes(all) + (peak ? ", at most " + bytes(Math.round(peak)) + "/s at " + time(speeds.indexOf(peak)) : "");
  if (away) words += "; hatched: not streaming, " + span(away * hour.step_seconds);
  say($("rate-words"), words);
  $("rate").setAttribute("aria-label", "WAL received, in bytes per second: " + words);
  chart($("rate"), hour, [{ values: speeds, kind: "area" }], round(Math.max(peak, 1024), 1024), (v) => bytes(v) + "/s");

  const lags = Object.entries(hour.lag_seconds).filter(([, values]) => values.some((v) => v !== null));
  const worst = Math.max(1, ...lags.flatMap(([, values]) => values.map((v) => v || 0)));
  words = lags.map(([stage, values]) => stage + " " + span(Math.max(...values.map((v) => v || 0))) + (stage === "archived" ? " (dashed)" : "")).reverse().join(", ");
  if (words) words = "at most: " + words;
  say($("lag-words"), words);
  $("lag").setAttribute("aria-label", "Time behind the server: " + words);
  chart($("lag"), hour, lags.map(([stage, values]) => ({ values, kind: stage === "archived" ? "dashed" : "line" })), worst > 60 ? 60 * round(worst / 60, 10) : round(worst, 10), (v) => span(v));
}

function cells(row, ...list) {
  for (const [name, value, kind] of list) row.append(el("td", { "data-name": name, ...(kind ? { class: kind } : {}) }, value));
  return row;
}
const nothing = (columns, text) => el("tr", {}, el("td", { colspan: columns, class: "soft" }, text));

function archive() {
  const { status, live } = known;
  $("archive").hidden = !status || !status.timelines;
  if (!status || !status.timelines) return;
  $("lines").toggleAttribute("hidden", !timelines($("lines"), status, live));
  legend();
  const newest = status.timelines.slice(-20).reverse();
  $("lines").setAttribute("aria-label", "Drawing of " + count(newest.length, "timeline") + ", which the table below describes");
  $("timelines").tBodies[0].replaceChildren(...newest.map((t) => {
    const gaps = status.gaps.filter((g) => g.timeline === t.timeline);
    const holds = el("span", {}, ...t.ranges.slice(-4).flatMap((r, i) => [i ? el("br") : null, r.start_lsn + " – " + r.end_lsn]));
    for (const g of gaps.slice(-4)) holds.append(el("br"), "without " + g.start_lsn + " – " + g.end_lsn + (g.accepted ? " (accepted)" : g.arriving ? " (arriving)" : ""));
    return cells(el("tr", {}, el("th", { scope: "row" }, el("span", { class: "narrow" }, "Timeline "), String(t.timeline))),
      ["left its parent", t.parent_timeline ? t.parent_timeline + " at " + (t.fork_lsn || "?") : "–", "mono"],
      ["holds", t.ranges.length ? holds : "–", "mono"],
      ["segments", t.segment_counts.total + (t.partials ? " + " + t.partials + " partial" : ""), "n"],
      ["tail up to", t.tail ? t.tail.end_lsn : "–", "mono"],
      ["last commit", t.last_commit ? utc(t.last_commit) : "–"]);
  }), ...(newest.length ? [] : [nothing(6, "Nothing is archived yet.")]));

  $("windows").replaceChildren(...(status.recoverable.length ? status.recoverable.slice(-5).reverse().map((w) => {
    const times = !w.start_time ? [] : !w.end_time ? [" from ", el("b", {}, utc(w.start_time)), " on"]
      : [" from ", el("b", {}, utc(w.start_time)), w.times_until_lsn === w.end_lsn ? " to " : " to at least ", el("b", {}, utc(w.end_time))];
    return el("li", {}, "Timeline " + w.timeline, ...times, ": every position from ", el("span", { class: "mono" }, w.start_lsn), " to ", el("span", { class: "mono" }, w.end_lsn), ", with " + count(w.backups.length, "base backup") + ".");
  }) : [el("li", {}, status.window
    ? "Nothing yet: it takes a base backup. One from between " + status.window.start_lsn + " and " + status.window.end_lsn + " could be recovered; walrecv backup create makes one."
    : "Nothing yet.")]));
  const backups = status.backups.slice(-10).reverse();
  $("backups").hidden = !backups.length;
  $("backups").tBodies[0].replaceChildren(...backups.map((b) => cells(el("tr", {}, el("th", { scope: "row" }, b.id, b.label ? el("small", {}, b.label) : null)),
    ["state", b.state + (b.wal && b.wal.problem ? ", cannot be restored" : "")], ["timeline", String(b.timeline || "–")], ["from", b.start_lsn || "–", "mono"],
    ["finished", b.finished ? when(b.finished) : "–"], ["size", b.plain_size ? bytes(b.plain_size) : "–", "n"])));
  const d = status.last_drill;
  $("drill").replaceChildren("Last drill: ", !d ? "none. walrecv drill proves that the archive restores."
    : d.success ? when(d.started) + ", restored " + d.backup + " up to " + d.reached_lsn + " in " + span(d.restore_seconds) + "."
    : when(d.started) + ", failed: " + d.failures.join(", ") + ".");
}

function legend() {
  if ($("legend").children.length) return;
  const bar = (name) => svg("svg", { viewBox: "0 0 22 12" }, svg("rect", { class: name, x: 1, y: 1, width: 20, height: 10, rx: 1.5 }));
  const shape = (name, d) => svg("svg", { viewBox: "0 0 22 12" }, svg("path", { class: name, d }));
  $("legend").append(...[[bar("held"), "segments"], [bar("tail"), "tail"], [bar("left"), "left behind"], [bar("gap"), "gap"], [shape("base", "M11 2l5 8h-10z"), "base backup"],
    [shape("point", "M11 2l4 4l-4 4l-4 -4z"), "restore point"], [shape("window", "M2 3v6H20v-6"), "recoverable"]].map(([sign, name]) => el("li", {}, sign, name)), el("li", {}, "not to scale"));
}

function frame() {
  const { live, status } = known;
  verdict();
  if (!live) return;
  say($("subline"), subline());
  say($("cluster"), [live.system_identifier && "cluster " + live.system_identifier, live.postgresql_major && "PostgreSQL " + live.postgresql_major, live.timeline && "timeline " + live.timeline].filter(Boolean).join(" · "));
  say($("clock"), utc(live.time));
  figures();
  positions();
  say($("age"), status && status.as_of ? status.archive + ", as of " + clock(status.as_of) + " (" + ago(status.as_of) + ")" : live.archive ? "The archive is being looked at." : "No archive.");
  say($("about"), "walrecv " + live.version + ", for " + since(live.started) + (live.reconnects_total ? ", reconnected " + count(live.reconnects_total, "time") : ""));
}

// later fetches what changes seldom, if it is time, and nobody waits for it.
async function later(path, name, then) {
  try {
    known[name] = await ask(path);
    then();
    verdict();
  } catch { /* the next look at api/live says that nobody answers */ }
}

async function tick() {
  if (asking || document.hidden) return;
  asking = true;
  const began = Date.now();
  try {
    const live = await ask("api/live");
    known.before = known.live;
    known.live = live;
    now = heard = Date.parse(live.time);
    lost = false;
  } catch {
    lost = true;
  }
  frame();
  if (!lost) {
    const { live, status } = known, soon = live.archive && (!status || !status.as_of || status.archive_error || status.timeline < live.timeline);
    if (began - hourAt >= hourEvery) hourAt = began, later("api/hour", "hour", hour);
    if (began - statusAt >= (soon ? 5000 : statusEvery)) statusAt = began, later("api/status", "status", archive);
  }
  if (!document.hidden) timer = setTimeout(tick, Math.max(0, began + every - Date.now()));
  asking = false;
}

let timer = setTimeout(tick);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  tick();
});
addEventListener("resize", () => { hour(); archive(); });
