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

// ---- panics ----

let known = new Set();

function step(text, className) {
  return make("li", { text, class: className || "" });
}

function lane(p) {
  const state = p.outcome || "open";
  const steps = make("ul", { class: "steps" }, step("raised"), step(p.hook_failed ? "a hook failed" : "hooks"),
    step(p.defers === 1 ? "1 deferred call" : `${p.defers} deferred calls`));
  if (p.repanicked) steps.append(step("raised again"));
  steps.append(step(p.outcome ? `${p.outcome}${p.by ? " by " + p.by : ""} after ${duration(p.took_ns)}` : "on its way",
    `outcome ${state}`));
  const about = [new Date(p.time_ms).toLocaleTimeString(), `goroutine ${p.goroutine}`, p.kind];
  if (p.route) about.push(p.route);
  if (p.trace) about.push(`trace ${p.trace}`);
  const fresh = !known.has(p.serial) && known.size > 0;
  return make("li", { class: `${state}${fresh ? " new" : ""}`, "data-serial": p.serial },
    make("div", { class: "text", text: p.text }), make("div", { class: "about", text: about.join(" · ") }), steps);
}

const panics = new Map();

/* The latest, of which `news` went on. */
function showPanics(news) {
  for (const p of news) panics.set(p.serial, p);
  const list = [...panics.values()].sort((a, b) => b.time_ms - a.time_ms || b.serial - a.serial).slice(0, 64);
  panics.clear();
  for (const p of list) panics.set(p.serial, p);
  $("lanes").replaceChildren(...list.slice(0, 20).map(lane));
  $("no-panics").hidden = list.length > 0;
  $("panics-note").textContent = list.length > 20 ? "the latest 20" : "";
  known = new Set(list.map((p) => p.serial));
  if (list.length > 0) later(showReports, 1500);
}

// ---- the runtime, routes, drops ----

let last = null;

function tile(name, value, bad) {
  return make("div", { class: bad ? "bad" : "" }, make("dt", { text: name }), make("dd", { text: value }));
}

function showState(s) {
  const r = s.runtime, seconds = last ? (s.time_ms - last.time_ms) / 1000 : 0;
  const rate = (now, before) => (seconds > 0 ? Math.max(0, (now - before) / seconds) : 0);
  const total = s.routes.reduce((sum, x) => sum + x.count, 0);
  const before = last ? last.routes.reduce((sum, x) => sum + x.count, 0) : total;
  $("process").textContent = `process ${s.pid}`;
  $("tiles").replaceChildren(
    tile("goroutines", number(r.running + r.runnable + r.waiting)), tile("running", number(r.running)),
    tile("waiting to run", number(r.runnable)), tile("run queues", r.run_queues.map(number).join(" ")),
    tile("threads", number(r.threads)), tile("timers", number(r.timers)), tile("requests/s", number(Math.round(rate(total, before)))),
    tile("started/s", number(Math.round(rate(r.spawned, last ? last.runtime.spawned : r.spawned)))),
    tile("panics", number(r.panics), r.panics > 0), tile("recovered", number(r.recovered)), tile("by faults", number(r.faults)));
  const old = new Map((last ? last.routes : []).map((x) => [x.method + x.route, x.count]));
  const rows = s.routes.slice().sort((a, b) => b.count - a.count);
  $("route-rows").replaceChildren(...rows.map((x) => make("tr", {},
    make("td", { class: "mono", text: x.route || `${x.method} (no route)` }),
    make("td", { class: "n", text: `${rate(x.count, old.get(x.method + x.route) ?? x.count).toFixed(1)}/s` }),
    make("td", { class: "n", text: duration(x.p50_ms * 1e6) }), make("td", { class: "n", text: duration(x.p99_ms * 1e6) }),
    make("td", { class: x.errors ? "n errors" : "n", text: number(x.errors) }), make("td", { class: "n", text: number(x.count) }))));
  $("no-routes").hidden = rows.length > 0;
  $("drop-rows").replaceChildren(...s.drops.map((d) => make("tr", {}, make("td", { text: d.what }),
    make("td", { text: d.reason.replaceAll("_", " ") }), make("td", { class: "n", text: number(d.count) }))));
  $("no-drops").hidden = s.drops.length > 0;
  $("exporter").textContent = s.export.filter((e) => e.accepted > 0).map((e) =>
    `${e.signal}: ${number(e.exported)} of ${number(e.accepted)} sent${e.open ? ", the collector is left alone" : ""}`).join(" · ");
  last = s;
}

// ---- goroutines ----

let shown = 0;

function frameLine(f) {
  const where = f.file ? `  ${f.file}:${f.line}` : "";
  return make("span", { class: f.runtime ? "runtime" : "", text: `${f.function}${where}\n` });
}

function group(g) {
  const top = g.frames.find((f) => !f.runtime) || g.frames.find((f) => f.function.startsWith("bh_")) || g.frames[0];
  const about = [`goroutines ${g.ids.join(", ")}${g.count > g.ids.length ? ", …" : ""}`];
  if (g.name) about.push(`name ${g.name}`);
  if (g.labels) about.push(g.labels);
  return make("details", {},
    make("summary", {}, make("span", { class: "count", text: number(g.count) }),
      make("span", { class: "state", text: g.why + (g.longest_ms > 0 ? `, up to ${duration(g.longest_ms * 1e6)}` : "") }),
      make("code", { class: "top", text: top ? top.function : "no stack" })),
    make("pre", { class: "frames", tabindex: "0" }, make("span", { class: "runtime", text: about.join(" · ") + "\n\n" }),
      ...g.frames.map(frameLine)));
}

async function showGoroutines(from) {
  const reply = await fetch(`${base}goroutines?from=${from}&search=${encodeURIComponent($("search").value)}`);
  if (!reply.ok) return;
  const all = await reply.json();
  if (from === 0) $("groups").replaceChildren();
  $("groups").append(...all.groups.map(group));
  shown = from + all.groups.length;
  $("more").hidden = shown >= all.groups_total;
  $("goroutines-note").textContent = all.found === all.total
    ? `${number(all.total)} in ${number(all.groups_total)} stacks` : `${number(all.found)} of ${number(all.total)}`;
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

function tree(p, value) {
  const root = { name: "all", total: 0, children: new Map() };
  for (const s of p.samples) {
    const n = s.values[value];
    if (!(n > 0)) continue;
    root.total += n;
    let at = root;
    for (const id of s.stack.slice().reverse()) {
      const l = p.locations.get(id) || { lines: [], address: 0 };
      const names = l.lines.map((f) => p.strings[p.functions.get(f)] || "?").reverse();
      for (const name of names.length ? names : [`0x${l.address.toString(16)}`]) {
        if (!at.children.has(name)) at.children.set(name, { name, total: 0, children: new Map() });
        at = at.children.get(name);
        at.total += n;
      }
    }
  }
  return root;
}

// ---- the flame graph ----

let profile = null, root = null;

function amount(n) {
  const unit = profile.strings[profile.types[$("value").selectedIndex][2]];
  return unit === "nanoseconds" ? duration(n) : unit === "bytes" ? size(n) : number(n);
}

function hue(name) {
  let h = 0;
  for (const c of name) h = (h * 31 + c.codePointAt(0)) >>> 0;
  return `h${h % 6}`;
}

function draw(top) {
  const graph = $("graph"), width = graph.clientWidth, row = 21, boxes = [];
  let depth = 0;
  const place = (node, left, level) => {
    const w = (node.total / top.total) * width;
    if (w < 2) return;
    depth = Math.max(depth, level + 1);
    const text = `${node.name}, ${amount(node.total)}, ${((node.total / root.total) * 100).toFixed(1)} %`;
    const box = make("button", { type: "button", role: "treeitem", "aria-level": level + 1, "aria-label": text, title: text,
      class: node === root ? "root" : hue(node.name), text: w > 24 ? node.name : "" });
    box.style.left = `${left}px`;
    box.style.width = `${w}px`;
    box.style.top = `${level * row}px`;
    box.addEventListener("click", () => draw(node));
    box.addEventListener("focus", () => { $("flame-status").textContent = text; });
    box.addEventListener("mouseenter", () => { $("flame-status").textContent = text; });
    boxes.push(box);
    for (const child of [...node.children.values()].sort((a, b) => b.total - a.total)) {
      place(child, left, level + 1);
      left += (child.total / top.total) * width;
    }
  };
  if (top.total > 0) place(top, 0, 0);
  graph.style.height = `${depth * row}px`;
  graph.replaceChildren(...boxes);
  $("unzoom").hidden = top === root;
}

function drawValue() {
  root = tree(profile, $("value").selectedIndex);
  $("flame-status").textContent = root.total > 0 ? "" : "Nothing was sampled.";
  $("flame-note").textContent = root.total > 0 ? `${amount(root.total)} in ${number(profile.samples.length)} samples` : "";
  draw(root);
}

async function drawProfile() {
  $("flame-status").textContent = "reading";
  try {
    profile = await readProfile($("profile").value);
  } catch (e) {
    $("flame-status").textContent = e.message;
    $("graph").replaceChildren();
    return;
  }
  $("value").replaceChildren(...profile.types.map((t) => make("option", { text: profile.strings[t[1]] })));
  $("value").selectedIndex = profile.types.length - 1;
  drawValue();
}

// ---- reports ----

async function showReports() {
  const reply = await fetch(`${base}reports`);
  if (!reply.ok) return;
  const all = await reply.json();
  const rows = all.reports.map((r) => make("div", {}, make("code", { text: r.id }),
    make("span", { class: "empty", text: new Date(r.time * 1000).toLocaleString() }),
    ...r.files.map((f) => make("a", { href: `${base}reports/${r.id}/${f.name}`, title: size(f.size), text: f.name }))));
  $("reports").replaceChildren(...(rows.length ? rows : [make("p", { class: "empty",
    text: all.kept ? "No reports of panics." : "Reports are not kept: no directory was given." })]));
}

// ---- life ----

const timers = new Map();
function later(fn, ms) {
  clearTimeout(timers.get(fn));
  timers.set(fn, setTimeout(fn, ms));
}

function connect() {
  const events = new EventSource(`${base}events`);
  events.addEventListener("open", () => { $("connection").textContent = "live"; $("connection").className = "live"; });
  events.addEventListener("error", () => { $("connection").textContent = "not connected"; $("connection").className = "lost"; });
  events.addEventListener("panics", (e) => showPanics(JSON.parse(e.data)));
  events.addEventListener("state", (e) => showState(JSON.parse(e.data)));
}

$("search-form").addEventListener("submit", (e) => { e.preventDefault(); showGoroutines(0); });
$("search").addEventListener("input", () => later(() => showGoroutines(0), 250));
$("more").addEventListener("click", () => showGoroutines(shown));
$("flame-form").addEventListener("submit", (e) => { e.preventDefault(); drawProfile(); });
$("value").addEventListener("change", drawValue);
$("unzoom").addEventListener("click", () => draw(root));
addEventListener("resize", () => { if (root) later(redraw, 150); });
function redraw() { draw(root); }
connect();
showGoroutines(0);
showReports();
