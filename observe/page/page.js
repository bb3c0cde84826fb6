// page.js -- moves the page: events in, elements out.  Texts are only ever set as text.
"use strict";

const base = "bulkhead/";
const $ = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") e.className = value;
    else if (name === "text") e.textContent = value;
    else e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}

const number = (n) => n.toLocaleString("en-US");

function duration(ns) {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(ns < 1e4 ? 1 : 0)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(1)} s`;
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1048576 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;
}

// ---- panics: a lane each, changed only when something happened in it ----

const SHOWN = 12, lanes = new Map();

function step(name, when, className) {
  return make("li", { class: className || "" }, make("span", { class: "name", text: name, title: name }),
    make("span", { class: "when", text: when }));
}

function steps(p) {
  const list = make("ol", { class: "steps", "aria-label": "What became of it" },
    step("raised", new Date(p.time_ms).toLocaleTimeString(), "raised"));
  if (p.hook_failed) list.append(step("a hook failed", "", "failed"));
  for (const s of p.steps) {
    const when = "+" + duration(s.at_ns);
    if (!s.function) list.append(step("raised again", when, "raised"));
    else list.append(step(s.function, s.took_ns < 0 ? when : `${when}, took ${duration(s.took_ns)}`, "defer"));
  }
  if (p.defers > p.steps.length) list.append(step(`${p.defers - p.steps.length} more`, ""));
  if (p.outcome) list.append(step(p.by ? `${p.outcome} by ${p.by}` : p.outcome, "+" + duration(p.took_ns), `outcome ${p.outcome}`));
  else list.append(step("on its way", "", "outcome open"));
  return list;
}

/* Of a storm one panic has a report: the lane has it, too. */
const reports = new Map();

function linkReport(e) {
  const serial = [...e.serials].find((s) => reports.has(s));
  e.querySelector(".to-report").replaceChildren(...(serial === undefined ? [] :
    [make("a", { href: `${base}reports/${reports.get(serial)}/report.txt`, text: "its report" })]));
}

/* Panics alike share a lane, which shows the latest: a storm is one line with a number. */
const alike = (p) => [p.kind, p.text, p.route].join("\n");

function lane(p, old) {
  const about = [p.kind, p.route, `goroutine ${number(p.goroutine)}`, p.trace && `trace ${p.trace}`].filter(Boolean);
  const serials = old ? old.serials : new Set();
  serials.add(p.serial);
  const times = serials.size > 1 ? [make("b", { class: "times", text: `×\u2009${number(serials.size)}`, title: "seen by this page" })] : [];
  const details = make("details", {}, make("summary", {},
    make("div", { class: "lane-head" }, make("span", { class: "text" }, p.text, ...times),
      make("time", { text: new Date(p.time_ms).toLocaleTimeString() })),
    make("div", { class: "about", text: about.join(" · ") }), steps(p)), make("p", { class: "to-report" }), stack(p.frames));
  details.open = Boolean(old && old.firstChild.open);
  const e = make("li", { class: `${p.outcome || "open"}${old || lanes.size === 0 ? "" : " new"}` }, details);
  Object.assign(e, { serials, serial: p.serial, key: alike(p) });
  linkReport(e);
  return e;
}

function place(p) {
  const key = alike(p), old = lanes.get(key);
  /* Serials say which is which, not which is newer. */
  if (old && p.serial !== old.serial && old.serials.has(p.serial)) return;
  const e = lane(p, old), focused = old && old.contains(document.activeElement);
  if (old && p.serial === old.serial) old.replaceWith(e);
  else $("lanes").prepend(e);
  if (old && old.isConnected) old.remove();
  if (focused) e.querySelector("summary").focus({ preventScroll: true });
  lanes.set(key, e);
}

/* The list has what went on, the newest first. */
function showPanics(list) {
  for (const p of list.reverse()) place(p);
  while (lanes.size > SHOWN) {
    lanes.delete($("lanes").lastChild.key);
    $("lanes").lastChild.remove();
  }
  $("no-panics").hidden = lanes.size > 0;
  $("panics-note").textContent = lanes.size >= SHOWN ? `the latest ${SHOWN} kinds` : "";
  if (list.length > 0) later(showReports, 1500);
}

// ---- the runtime, routes, drops ----

let last = null;

function tile(name, value, className) {
  return make("div", { class: className || "" }, make("dt", { text: name, title: name }), make("dd", { text: value }));
}

/* label: the column's name, where a phone shows it beside the value. */
const cell = (text, className, label) => make("td", { class: className, text, "data-label": label || "" });
const count = (n, label, bad) => cell(number(n), n === 0 ? "n zero" : bad ? "n errors" : "n", label);

function showTiles(s, perSecond) {
  const r = s.runtime, queued = r.run_queues.reduce((a, b) => a + b, 0);
  const requests = (x) => x.routes.reduce((sum, y) => sum + y.count, 0);
  const one = (n) => (n >= 100 ? number(Math.round(n)) : n.toFixed(1));
  $("tiles").replaceChildren(
    tile("requests/s", one(perSecond(requests))),
    tile("goroutines", number(r.running + r.runnable + r.waiting)),
    tile("running", number(r.running)),
    tile("in run queues", number(queued), queued ? "" : "quiet"),
    tile("waiting for I/O", number(r.io_waiters)),
    tile("timers", number(r.timers)),
    tile("threads", number(r.threads)),
    tile("started/s", one(perSecond((x) => x.runtime.spawned))),
    tile("panics", number(r.panics), r.panics ? "bad" : "quiet"),
    tile("faults", number(r.faults), r.faults ? "bad" : "quiet"),
    tile("recovered", number(r.recovered), r.recovered ? "" : "quiet"),
    tile("reports", number(s.report.full), s.report.full ? "" : "quiet"));
}

// What the last seconds were like: states of so long ago are kept, to take differences.
const RECENT_MS = 10000, states = [];

const pairs = (list) => {
  const all = new Map();
  for (let i = 0; i < list.length; i += 2) all.set(list[i], (all.get(list[i]) || 0) + list[i + 1]);
  return all;
};

/* Of a route's requests since `before`, which may be missing: how many, how many failed, quantiles in ms. */
function recent(now, before) {
  const old = pairs(before ? before.buckets : []), counts = [];
  for (const [bound, n] of pairs(now.buckets)) {
    const more = n - (old.get(bound) || 0);
    if (more > 0) counts.push([bound, more]);
  }
  counts.sort((a, b) => a[0] - b[0]);
  const total = counts.reduce((sum, x) => sum + x[1], 0);
  const quantile = (part) => {
    let below = 0;
    for (const [bound, n] of counts) if ((below += n) >= part * total) return bound;
    return 0;
  };
  return { total, errors: now.errors - (before ? before.errors : 0), p50: quantile(0.5), p99: quantile(0.99) };
}

function showRoutes(s) {
  const key = (x) => `${x.method} ${x.route}`;
  while (states.length > 1 && s.time_ms - states[0].time_ms > RECENT_MS) states.shift();
  const first = states[0], seconds = first ? (s.time_ms - first.time_ms) / 1000 : 0;
  const old = new Map((first ? first.routes : []).map((x) => [key(x), x]));
  const rows = s.routes.slice().sort((a, b) => b.count - a.count);
  states.push({ time_ms: s.time_ms, routes: s.routes });
  $("route-rows").replaceChildren(...rows.map((x) => {
    const r = first ? recent(x, old.get(key(x))) : { total: 0, errors: 0 }, busy = r.total > 0;
    const share = busy ? Math.round((r.errors / r.total) * 100) : 0;
    return make("tr", {}, cell(x.route ? key(x) : `${x.method}, no route`, "name mono"),
      cell(busy ? `${(r.total / seconds).toFixed(1)}/s` : "–", busy ? "n" : "n zero", "rate"),
      cell(duration((busy ? r.p50 : x.p50_ms) * 1e6), busy ? "n" : "n zero", "p50"),
      cell(duration((busy ? r.p99 : x.p99_ms) * 1e6), busy ? "n" : "n zero", "p99"),
      cell(busy ? `${share} %` : "–", share > 0 ? "n errors" : "n zero", "errors now"),
      count(x.errors, "errors", true), count(x.count, "total"));
  }));
  $("route-table").hidden = rows.length === 0;
  $("no-routes").hidden = rows.length > 0;
}

function showState(s) {
  const seconds = last ? (s.time_ms - last.time_ms) / 1000 : 0;
  const perSecond = (of) => (seconds > 0 ? Math.max(0, (of(s) - of(last)) / seconds) : 0);
  $("process").textContent = `process ${s.pid}`;
  showTiles(s, perSecond);
  showRoutes(s);
  $("drop-rows").replaceChildren(...s.drops.map((d) => make("tr", {}, cell(d.what, ""),
    cell(d.reason.replaceAll("_", " "), ""), count(d.count, "", true))));
  $("drop-table").hidden = s.drops.length === 0;
  $("no-drops").hidden = s.drops.length > 0;
  $("export-rows").replaceChildren(...s.export.map((e) => make("tr", {},
    cell(e.open ? `${e.signal}: paused, it does not answer` : e.signal, "name"), count(e.accepted, "accepted"),
    count(e.exported, "sent"), count(e.queued, "queued"), count(e.failures, "failed", true))));
  $("export-table").hidden = s.export.every((e) => e.accepted === 0 && e.failures === 0);
  last = s;
}

// ---- goroutines ----

let shown = 0, only = "";

function stack(frames) {
  const lines = frames.map((f) => make("span", { class: f.runtime ? "runtime" : "" }, f.function,
    make("i", { text: f.file ? `  ${f.file}:${f.line}` : "" })));
  return make("pre", { class: "frames", tabindex: "0", role: "region", "aria-label": "Stack" },
    ...(lines.length ? lines : [make("span", { text: "no stack" })]));
}

function group(g) {
  const top = g.frames.find((f) => !f.runtime && !f.function.startsWith("bh_")) ||
    g.frames.find((f) => f.function.startsWith("bh_")) || g.frames[0];
  const about = [`goroutine${g.count > 1 ? "s" : ""} ${g.ids.join(", ")}${g.count > g.ids.length ? ", …" : ""}`];
  if (g.name) about.push(`named ${g.name}`);
  if (g.labels) about.push(g.labels);
  return make("details", {},
    make("summary", {}, make("span", { class: "count", text: number(g.count) }),
      make("code", { class: "top", text: top ? top.function : "no stack" }),
      make("span", { class: "state", text: g.why + (g.longest_ms > 0 ? `, up to ${duration(g.longest_ms * 1e6)}` : "") })),
    make("p", { class: "ids", text: about.join(" · ") }), stack(g.frames));
}

function showStates(states) {
  const chips = Object.entries(states).sort((a, b) => b[1] - a[1]).map(([why, n]) => {
    const e = make("button", { type: "button", "aria-pressed": String(why === only) }, make("b", { text: number(n) }), why);
    e.addEventListener("click", () => {
      only = why === only ? "" : why;
      showGoroutines(0, why);
    });
    return e;
  });
  $("states").replaceChildren(...chips);
}

/* focus: the state whose button shall keep it. */
async function showGoroutines(from, focus) {
  const search = encodeURIComponent($("search").value), state = encodeURIComponent(only);
  const reply = await fetch(`${base}goroutines?from=${from}&search=${search}&state=${state}`);
  if (!reply.ok) return;
  const all = await reply.json();
  if (from === 0) $("groups").replaceChildren();
  $("groups").append(...all.groups.map(group));
  shown = from + all.groups.length;
  $("more").hidden = shown >= all.groups_total;
  showStates(all.states);
  if (focus) [...$("states").children].find((e) => e.lastChild.data === focus)?.focus();
  $("goroutines-note").textContent = all.found === all.total
    ? `${number(all.total)} in ${number(all.groups_total)} stacks` : `${number(all.found)} of ${number(all.total)}`;
  if (all.ungrouped) $("goroutines-note").textContent += `, ${number(all.ungrouped)} in stacks not shown`;
}

// ---- pprof: gzip and protocol buffers ----

function reader(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1, byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte > 127);
    return value >= 2 ** 63 ? value - 2 ** 64 : value;
  };
  return { more: () => at < bytes.length, varint, take: (n) => bytes.subarray(at, (at += n)) };
}

function fields(bytes, handle) {
  const r = reader(bytes);
  while (r.more()) {
    const key = r.varint(), field = key >>> 3;
    if ((key & 7) === 0) handle(field, r.varint());
    else if ((key & 7) === 2) handle(field, r.take(r.varint()));
    else if ((key & 7) === 1) r.take(8);
    else r.take(4);
  }
}

const packed = (v) => {
  if (typeof v === "number") return [v];
  const r = reader(v), list = [];
  while (r.more()) list.push(r.varint());
  return list;
};

async function readProfile(name) {
  const reply = await fetch(`pprof/${name}`);
  if (!reply.ok) throw new Error((await reply.text()).trim());
  const plain = reply.body.pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(plain).arrayBuffer());
  const p = { types: [], samples: [], locations: new Map(), functions: new Map(), strings: [] };
  fields(bytes, (field, v) => {
    if (field === 1) { const t = {}; fields(v, (f, x) => { t[f] = x; }); p.types.push(t); }
    else if (field === 2) {
      const s = { stack: [], values: [] };
      fields(v, (f, x) => { if (f === 1) s.stack.push(...packed(x)); else if (f === 2) s.values.push(...packed(x)); });
      p.samples.push(s);
    } else if (field === 4) {
      const l = { lines: [], address: 0 };
      let id = 0;
      fields(v, (f, x) => {
        if (f === 1) id = x;
        else if (f === 3) l.address = x;
        else if (f === 4) fields(x, (g, y) => { if (g === 1) l.lines.push(y); });
      });
      p.locations.set(id, l);
    } else if (field === 5) {
      let id = 0, text = 0;
      fields(v, (f, x) => { if (f === 1) id = x; else if (f === 2) text = x; });
      p.functions.set(id, text);
    } else if (field === 6) p.strings.push(new TextDecoder().decode(v));
  });
  return p;
}

/* A sample's functions, outermost first. */
function namesOf(p, sample) {
  const names = [];
  for (const id of sample.stack.slice().reverse()) {
    const l = p.locations.get(id) || { lines: [], address: 0 };
    const inlined = l.lines.map((f) => p.strings[p.functions.get(f)] || "?").reverse();
    names.push(...(inlined.length ? inlined : [`0x${l.address.toString(16)}`]));
  }
  return names.length ? names : ["no stack"];
}

function tree(p, value) {
  const root = { name: "all", total: 0, children: new Map() };
  for (const s of p.samples) {
    const n = s.values[value];
    if (!(n > 0)) continue;
    root.total += n;
    let at = root;
    for (const name of namesOf(p, s)) {
      if (!at.children.has(name)) at.children.set(name, { name, total: 0, children: new Map() });
      at = at.children.get(name);
      at.total += n;
    }
  }
  return root;
}

// ---- the flame graph ----

let profile = null, root = null, zoomed = null;

function amount(n) {
  const unit = profile.strings[profile.types[$("value").selectedIndex][2]];
  return unit === "nanoseconds" ? duration(n) : unit === "bytes" ? size(n) : number(n);
}

function look(node) {
  let h = 0;
  for (const c of node.name) h = (h * 31 + c.codePointAt(0)) >>> 0;
  return node === root ? "root" : `h${h % 6}${/^(bh|rt|ht|ob)_/.test(node.name) ? " own" : ""}`;
}

const describe = (node) => `${node.name}, ${amount(node.total)}, ${((node.total / root.total) * 100).toFixed(1)} %`;

const ROW = 22, NARROW = 2; /* px; what is narrower is not drawn */

/* Boxes, the root on top.  One can be reached by Tab, the others by arrows. */
function draw(top) {
  const graph = $("graph"), width = graph.clientWidth, boxes = [];
  let depth = 0;
  const place = (node, left, level, parent) => {
    const w = (node.total / top.total) * width;
    if (w < NARROW) return null;
    depth = Math.max(depth, level + 1);
    const box = make("div", { role: "treeitem", tabindex: boxes.length ? "-1" : "0", "aria-level": level + 1,
      "aria-label": describe(node), title: describe(node), class: look(node), text: w > 30 ? node.name : "" });
    Object.assign(box.style, { left: `${left}px`, width: `${w}px`, top: `${level * ROW}px`, padding: w > 30 ? "" : "0" });
    Object.assign(box, { node, parent, below: [] });
    boxes.push(box);
    for (const child of [...node.children.values()].sort((a, b) => b.total - a.total)) {
      const below = place(child, left, level + 1, box);
      if (below) box.below.push(below);
      left += (child.total / top.total) * width;
    }
    return box;
  };
  if (top.total > 0) place(top, 0, 0, null);
  graph.style.height = `${depth * ROW}px`;
  graph.replaceChildren(...boxes);
  $("unzoom").hidden = top === root;
  zoomed = top;
}

function walk(box, key) {
  const beside = box.parent ? box.parent.below : [box], at = beside.indexOf(box);
  return { ArrowDown: box.below[0], ArrowUp: box.parent, ArrowRight: beside[at + 1], ArrowLeft: beside[at - 1] }[key];
}

function onGraphKey(e) {
  const box = e.target, to = box.node && walk(box, e.key);
  if (e.key.startsWith("Arrow")) {
    e.preventDefault();
    if (!to) return;
    box.tabIndex = -1;
    to.tabIndex = 0;
    to.focus({ preventScroll: true });
    to.scrollIntoView({ block: "nearest" });
  } else if (box.node && (e.key === "Enter" || e.key === " ")) {
    e.preventDefault();
    zoom(box.node);
  } else if (e.key === "Escape") {
    zoom(root);
  }
}

function zoom(node) {
  const inside = $("graph").contains(document.activeElement);
  draw(node);
  if (inside) $("graph").firstChild?.focus({ preventScroll: true });
}

/* What each function uses itself, and with all it calls. */
function showFunctions(value) {
  const all = new Map();
  for (const s of profile.samples) {
    const n = s.values[value], names = namesOf(profile, s);
    if (!(n > 0)) continue;
    for (const name of new Set(names)) {
      if (!all.has(name)) all.set(name, { name, self: 0, total: 0 });
      all.get(name).total += n;
    }
    all.get(names[names.length - 1]).self += n;
  }
  const rows = [...all.values()].sort((a, b) => b.self - a.self || b.total - a.total).slice(0, 30);
  $("function-rows").replaceChildren(...rows.map((f) => make("tr", {}, cell(f.name, "name mono"),
    cell(amount(f.self), f.self ? "n" : "n zero"), cell(amount(f.total), "n"))));
  $("functions").hidden = rows.length === 0;
}

function drawValue() {
  root = tree(profile, $("value").selectedIndex);
  $("flame-status").textContent = root.total > 0 ? "" : "Nothing was sampled.";
  $("flame-note").textContent = root.total > 0 ? `${amount(root.total)} in ${number(profile.samples.length)} samples` : "";
  draw(root);
  showFunctions($("value").selectedIndex);
}

async function drawProfile() {
  $("flame-status").textContent = "reading";
  try {
    profile = await readProfile($("profile").value);
  } catch (e) {
    profile = root = null;
    $("flame-status").textContent = e.message;
    $("flame-note").textContent = "";
    $("graph").replaceChildren();
    $("functions").hidden = $("unzoom").hidden = true;
    return;
  }
  $("value").replaceChildren(...profile.types.map((t) => make("option", { text: profile.strings[t[1]].replaceAll("_", " ") })));
  $("value").selectedIndex = profile.types.length - 1;
  drawValue();
}

// ---- reports ----

async function showReports() {
  const reply = await fetch(`${base}reports`);
  if (!reply.ok) return;
  const all = await reply.json();
  for (const r of all.reports) if (r.serial > 0) reports.set(r.serial, r.id);
  for (const e of lanes.values()) linkReport(e);
  const rows = all.reports.map((r) => make("div", {},
    make("p", {}, new Date(r.time * 1000).toLocaleString() + " ", make("code", { class: "empty", text: r.id })),
    make("ul", { class: "chips", "aria-label": `Files of ${r.id}` }, ...r.files.map((f) => make("li", {},
      make("a", { href: `${base}reports/${r.id}/${f.name}`, title: size(f.size), text: f.name }))))));
  $("reports").replaceChildren(...(rows.length ? rows : [make("p", { class: "empty",
    text: all.kept ? "None yet." : "Not kept: no directory was given." })]));
}

// ---- life ----

const timers = new Map();
function later(fn, ms) {
  clearTimeout(timers.get(fn));
  timers.set(fn, setTimeout(fn, ms));
}

function connect() {
  const events = new EventSource(`${base}events`);
  const say = (text, className) => { $("connection").textContent = text; $("connection").className = className; };
  events.addEventListener("open", () => say("live", "live"));
  events.addEventListener("error", () => say("not connected", "lost"));
  events.addEventListener("panics", (e) => showPanics(JSON.parse(e.data)));
  events.addEventListener("state", (e) => showState(JSON.parse(e.data)));
}

$("search-form").addEventListener("submit", (e) => { e.preventDefault(); showGoroutines(0); });
$("search").addEventListener("input", () => later(find, 250));
function find() { showGoroutines(0); }
$("more").addEventListener("click", () => showGoroutines(shown));
$("flame-form").addEventListener("submit", (e) => { e.preventDefault(); drawProfile(); });
$("value").addEventListener("change", () => profile && drawValue());
$("unzoom").addEventListener("click", () => zoom(root));
$("graph").addEventListener("click", (e) => e.target.node && zoom(e.target.node));
$("graph").addEventListener("keydown", onGraphKey);
for (const name of ["focusin", "mouseover"]) {
  $("graph").addEventListener(name, (e) => { if (e.target.node) $("flame-status").textContent = describe(e.target.node); });
}
addEventListener("resize", () => later(redraw, 150));
function redraw() { if (root) draw(zoomed); }
connect();
showGoroutines(0);
showReports();
