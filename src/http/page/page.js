// The web page: the daemon's status, its keys, and their changes.
//
// It uses the same endpoints as every client: /v1/status every two seconds, /v1/kv for the keys, and /v1/stream from the
// cursor of that answer. It keeps only what it shows, and everything that it shows has a limit. On a daemon with named
// collections one is chosen, which the address names: #collection=NAME.
"use strict";

const STATUS_EVERY_MS = 2000;
const PAGE_KEYS = 100;
const MAX_KEYS = 2000;
const LONGEST_IN_ADDRESS = 1000;
const MAX_CHANGES = 200;
const PREVIEW_CHARS = 300;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10000;
// The daemon sends a heartbeat every 15 s; after three missed ones the connection is dead.
const SILENCE_MS = 45000;

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// ---- requests

let token = sessionStorage.getItem("token");

async function ask(path, more = {}) {
  const headers = { ...more.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...more, headers, cache: "no-store" });
  if (answer.status === 401) {
    requireToken(token ? "this token is unknown" : "");
    throw new Error("a token is required");
  }
  if (!answer.ok) throw Object.assign(new Error(await problem(answer)), { status: answer.status });
  $("token-form").hidden = true;
  return answer;
}

async function problem(answer) {
  const text = await answer.text();
  try {
    return `${answer.status} ${JSON.parse(text).detail}`;
  } catch {
    return `${answer.status} ${text.slice(0, 200)}`;
  }
}

function requireToken(error) {
  $("token-form").hidden = false;
  $("token-error").textContent = error;
}

// Numbers keep their digits: 12345678901234567890 does not become 12345678901234567000.
function parse(line) {
  return JSON.parse(line, (_, value, context) =>
    typeof value === "number" && context && JSON.rawJSON && String(value) !== context.source
      ? JSON.rawJSON(context.source)
      : value);
}

// ---- the collection

/** The shown collection; null is the one without a name. */
let collection = inAddress();
/** The names of the collections; null until they are known. */
let collections = null;

function inAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("collection") || null;
}

/** The path of the collection's endpoints, relative to the page. */
const base = () => (collection === null ? "v1" : `v1/c/${encodeURIComponent(collection)}`);

async function findCollections() {
  const answer = await ask("v1/collections", { signal: AbortSignal.timeout(10000) });
  collections = (await answer.json()).collections.map((one) => one.name);
  // Without a name in the address it is the first one, if there is none without a name.
  if (collection === null && collections.length && !collections.includes(null)) {
    collection = collections[0];
    if (following) watchKeys();
  }
  showCollections();
}

function showCollections() {
  $("collections").hidden = !collections?.some((one) => one !== null);
  const listed = collections?.includes(collection) ? collections : [...(collections ?? []), collection];
  $("collection").replaceChildren(...listed.map((one) => {
    const option = element("option", one ?? "(no name)");
    option.value = one ?? "";
    option.selected = one === collection;
    return option;
  }));
  $("status-link").textContent = `/${base()}/status`;
  $("status-link").href = `${base()}/status`;
}

/** Shows another collection. */
function enter(name) {
  if (name === collection) return;
  collection = name;
  showCollections();
  banner("unknown", "Loading …", "");
  for (const list of ["facts", "keys"]) $(list).replaceChildren();
  $("refused").hidden = true;
  [rows, more] = [new Map(), false];
  note("");
  showStatus();
  watchKeys();
}

$("collection").onchange = () => {
  const name = $("collection").value;
  // This is a new entry of the history; "hashchange" follows.
  location.hash = name ? `collection=${encodeURIComponent(name)}` : "";
  enter(name || null);
};

window.onhashchange = () => enter(inAddress() ?? (collections?.includes(null) === false ? collections[0] ?? null : null));

// ---- the daemon

const STATES = {
  "in-sync": ["good", "In sync", "Clients get every change at once."],
  "resync-in-progress": ["careful", "Resync in progress",
    "The last known state is served while it is compared with the upstream."],
  "wait-for-datastore": ["careful", "Waiting for the datastore",
    "The upstream cannot be reached. The last known state is served, if there is one."],
};

let lastHeard = Date.now();

// What the feed is doing, such as "listing page 3 since 2026-01-02T03:04:05.678Z".
function activity(doing) {
  if (!doing) return undefined;
  return `${doing.name}${doing.page === undefined ? "" : ` page ${doing.page}`} since ${doing.since}`;
}

// When the upstream was last heard; an older daemon does not say that it never was.
function heard(status) {
  return status.upstream_heard_timestamp === null ? "never" : ago(status.age_seconds);
}

function stored(store) {
  if (!store) return store === null ? "nothing (no --state-dir)" : undefined;
  const what = store.keeps === "writes" ? "every write, on disk" : "a copy of the state, on disk";
  const written = store.last_write_timestamp ? `last written ${store.last_write_timestamp}` : "not written since the start";
  return `${what}; ${written}${store.failing ? `; failing since ${store.failing.since}: ${store.failing.message}` : ""}`;
}

function file(one) {
  return `read ${one.read_timestamp}` + (one.expires_timestamp ? `, expires ${one.expires_timestamp}` : "") +
    (one.fault ? `; faulty since ${one.fault.since}: ${one.fault.message}` : "");
}

// What is wrong, in sentences: first of all that a tired person needs.
function showWrong(wrong) {
  $("wrong").hidden = !wrong?.length;
  $("wrong-list").replaceChildren(...(wrong ?? []).map((one) => element("li", one.message)));
}

function show(status) {
  let [colour, title, text] = STATES[status.status] ?? ["unknown", status.status, ""];
  // While the upstream is not reached, nothing is compared with it.
  if (status.status === "resync-in-progress" && ["connecting", "retrying", "failed"].includes(status.feed_activity?.name))
    [title, text] = ["The upstream is not reached", "The last known state is served."];
  if (status.unwell) [colour, title, text] = ["bad", `Unhealthy: ${status.unwell.part}`, status.unwell.why];
  else if (status.draining) [colour, title, text] = ["careful", "Shutting down", "Clients continue on other replicas."];
  else if (!status.ready) [colour, text] = ["bad", "Nothing is served yet. " + text];
  else if (colour === "good" && status.wrong?.length) [colour, title, text] =
    ["careful", "In sync, but something is wrong", "It is listed below."];
  if (status.feed_problem && colour !== "good") text = `${text} ${status.feed_problem}`;
  banner(colour, title, text);
  const facts = [
    ["Feed", status.feed],
    ["The feed is", activity(status.feed_activity)],
    ["Last error of the feed", status.feed_last_error && `${status.feed_last_error.message} (${status.feed_last_error.at})`],
    ["Upstream last heard", heard(status)],
    ["Keys", status.count?.toLocaleString("en")],
    ["Keys and values", status.payload_bytes === undefined ? undefined : bytes(status.payload_bytes)],
    ["Revision", status.revision],
    ["Last change", status.timestamp],
    ["Stored", stored(status.store)],
    ["Waiting clients", `${status.waiters} of ${status.waiters_limit}`],
    ["Connections", status.connections],
    ...(status.limits ?? []).filter((one) => one.used !== null && !["max-waiters", "max-connections"].includes(one.flag))
      .map((one) => [`--${one.flag}`, `${bytes(one.used)} of ${bytes(one.limit)}`]),
    ...(status.files ?? []).map((one) => [`The ${one.files}`, file(one)]),
    ["Open streams", status.streams?.open],
    ["Ingest buffer", `${status.ingest.backlog} of ${status.ingest.capacity}`],
    ["Updates refused", status.ingest.refused],
    ["Malformed records", status.ingest.malformed],
    ["Kept breadcrumbs", status.kept.breadcrumbs + (status.kept.bytes === undefined ? "" : ` (${bytes(status.kept.bytes)})`)],
    ["Uptime", ago(status.uptime_seconds).replace(" ago", "")],
    ["Version", status.version],
    ["Digest", status.digest],
    ["Cursor", status.cursor],
  ];
  $("facts").replaceChildren(...facts.filter(([, fact]) => fact !== undefined && fact !== null).map(([name, fact]) => {
    const row = element("div");
    row.append(element("dt", name), element("dd", String(fact)));
    return row;
  }));
  showWrong(status.wrong);
  showRefused(status.refused);
  const root = new URL(".", location.href).href.replace(/\/$/, "");
  $("follow").textContent = [
    `curl -s ${root}/${base()}/breadcrumbs/current`,
    `curl -s ${root}/${base()}/breadcrumbs/${status.cursor ?? "CURSOR"}/next`,
    `crumbd follow --url ${root}${collection === null ? "" : ` --collection ${collection}`}`,
  ].join("\n");
}

// Refused keys are absent although the upstream has them; the page says why.
function showRefused(refused) {
  $("refused").hidden = !refused?.count;
  if (!refused?.count) return;
  $("refused-note").textContent = `${refused.exact ? "" : "At least "}${refused.count.toLocaleString("en")} ` +
    `of the upstream's keys are absent because their values were refused` +
    (refused.keys.length < refused.count ? `; ${refused.keys.length} of them are listed.` : ".");
  $("refused-keys").replaceChildren(...refused.keys.map((one) => {
    const key = (one.key ?? `base64:${one.key_base64}`) + (one.key_bytes ? "…" : "");
    const row = element("tr");
    row.append(element("td", key), element("td", one.reason), element("td", one.revision), element("td", one.since));
    return row;
  }));
}

function banner(colour, title, text) {
  $("banner").className = colour;
  if ($("state").textContent !== title) $("state").textContent = title;
  $("explanation").textContent = text;
  document.title = [title, collection, "crumbd"].filter(Boolean).join(" · ");
}

function ago(seconds) {
  if (seconds < 1) return "just now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return `${(seconds / 3600).toFixed(1)} h ago`;
}

function bytes(number) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) [number, unit] = [number / 1024, unit + 1];
  return `${unit ? number.toFixed(1) : number} ${units[unit]}`;
}

async function showStatus() {
  let asked = collection;
  try {
    if (collections === null) {
      await findCollections();
      asked = collection;
    }
    const status = await (await ask(`${base()}/status`, { signal: AbortSignal.timeout(10000) })).json();
    lastHeard = Date.now();
    if (asked === collection) show(status);
  } catch (error) {
    if (asked !== collection) return;
    if (!$("token-form").hidden) banner("unknown", "A token is required", "");
    else if (error.status === 403 || error.status === 404) banner("bad", "This is not shown", error.message);
    else {
      const since = ago((Date.now() - lastHeard) / 1000);
      banner("bad", "The daemon does not answer", `Last answer ${since}; the data below is old. (${error.message})`);
    }
  }
}

async function watchStatus() {
  for (;;) {
    await showStatus();
    await sleep(STATUS_EVERY_MS);
  }
}

// ---- keys and changes

let prefix = "";
let following = null;
/** The rows of the shown keys, in key order, and whether more keys follow. */
let rows = new Map();
let more = false;
/** The last key that was loaded, after which "More keys" goes on. */
let lastLoaded;
let held = null;

const name = (record) => record.key ?? `base64:${record.key_base64}`;

function valueText(record) {
  if (record.type === "deleted") return "";
  if (record.encoding === "base64") return `base64:${record.value}`;
  return record.encoding === "utf8" ? record.value : JSON.stringify(record.value);
}

function valueCell(record) {
  const text = valueText(record);
  const cell = element("td", text.slice(0, PREVIEW_CHARS), "value");
  if (text.length > PREVIEW_CHARS) {
    const button = element("button", `… ${text.length.toLocaleString("en")} characters`, "cut");
    button.onclick = () => { cell.textContent = text; };
    cell.append(button);
  }
  return cell;
}

function fill(row, record) {
  row.replaceChildren(element("td", name(record)), valueCell(record), element("td", String(record.revision ?? "")));
}

/** The row before which a key belongs. Keys are sorted by UTF-16, which differs from the daemon's order for rare characters. */
function rowAfter(key) {
  for (const [other, row] of rows) if (other > key) return row;
  return null;
}

function put(record, fresh) {
  const key = name(record);
  let row = rows.get(key);
  if (!row) {
    const after = rowAfter(key);
    // Keys after the last row are loaded with "More keys".
    if ((!after && more) || rows.size >= MAX_KEYS) return note();
    row = element("tr");
    $("keys").insertBefore(row, after);
    rows.set(key, row);
    if (after) rows = new Map([...rows].sort(([a], [b]) => (a < b ? -1 : 1)));
  }
  fill(row, record);
  if (fresh) flash(row);
}

function flash(row) {
  row.classList.remove("fresh");
  void row.offsetWidth;
  row.classList.add("fresh");
}

function note(text) {
  const shown = rows.size.toLocaleString("en");
  $("keys-note").textContent = text ?? (rows.size ? `${shown} shown${more ? ", there are more" : ""}` : "none");
  $("more").hidden = !more || rows.size >= MAX_KEYS;
}

function change(record, time) {
  const row = element("tr");
  const key = element("td", name(record), record.type === "deleted" ? "deleted" : "");
  row.append(element("td", time), element("td", record.type), key, valueCell(record),
    element("td", String(record.revision ?? "")));
  const list = $("changes");
  list.prepend(row);
  while (list.children.length > MAX_CHANGES) list.lastChild.remove();
  if (record.type === "deleted") {
    rows.get(name(record))?.remove();
    rows.delete(name(record));
  } else put(record, true);
}

function apply(records, time) {
  for (const record of records) change(record, time);
  note();
}

function base64(text) {
  return btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(""));
}

/** Loads a page of keys after this record, or the first one; returns its cursor. */
async function load(after, signal) {
  const of = collection;
  const query = new URLSearchParams({ limit: PAGE_KEYS });
  const headers = { Accept: "application/x-ndjson" };
  if (prefix) query.set("prefix", prefix);
  if (after?.key_base64 !== undefined) headers["Crumbd-Start-After"] = after.key_base64;
  // An address has room for some kilobytes only.
  else if (after?.key.length > LONGEST_IN_ADDRESS) headers["Crumbd-Start-After"] = base64(after.key);
  else if (after) query.set("start_after", after.key);
  const answer = await ask(`${base()}/kv?${query}`, { headers, signal });
  const records = (await answer.text()).split("\n").filter(Boolean).map(parse);
  if (of !== collection) return undefined;
  if (after === undefined) {
    rows = new Map();
    $("keys").replaceChildren();
  }
  more = false;
  for (const record of records) if (record.value !== undefined) put(lastLoaded = record, false);
  more = records[0]?.more === true;
  note();
  return answer.headers.get("Crumbd-Cursor");
}

/** Follows the stream from a cursor until it breaks. Returns the cursor after the last complete breadcrumb, or nothing
 * if the state has to be loaded again. */
async function follow(cursor, abort) {
  const query = new URLSearchParams({ from: cursor });
  if (prefix) query.set("prefix", prefix);
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort("silence"), SILENCE_MS);
  };
  try {
    const signal = abort.signal;
    const answer = await ask(`${base()}/stream?${query}`, { headers: { Accept: "application/x-ndjson" }, signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", header = null, records = [];
    alive();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return cursor;
      alive();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.filter(Boolean)) {
        const record = parse(line);
        if (record.type === "reset") return undefined;
        if (record.type === "breadcrumb") [header, records] = [record, []];
        else if (record.type !== "end") records.push(record);
        else {
          cursor = record.cursor ?? header.cursor;
          const time = (header.timestamp ?? "").slice(11, 23);
          if (held) held.push([records, time]);
          else apply(records, time);
          if (held) holdNote();
        }
      }
    }
  } catch (error) {
    if (abort.signal.aborted && abort.signal.reason !== "silence") throw error;
    return String(error.message).startsWith("410") ? undefined : cursor;
  } finally {
    clearTimeout(timer);
  }
}

async function watchKeys() {
  following?.abort("another prefix");
  const mine = new AbortController();
  following = mine;
  held = null;
  holdNote();
  $("changes").replaceChildren();
  let cursor, pause = FIRST_PAUSE_MS;
  while (following === mine) {
    try {
      cursor ??= await load(undefined, mine.signal);
      const abort = new AbortController();
      mine.signal.addEventListener("abort", () => abort.abort("another prefix"), { once: true });
      const begun = Date.now();
      cursor = await follow(cursor, abort);
      if (Date.now() - begun > LONGEST_PAUSE_MS) pause = FIRST_PAUSE_MS;
    } catch (error) {
      if (following === mine) note($("token-form").hidden ? error.message : "");
    }
    if (following === mine) await sleep(pause * (0.5 + Math.random() / 2));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

function holdNote() {
  const count = held?.reduce((sum, [records]) => sum + records.length, 0) ?? 0;
  // A pause of hours must not fill the memory.
  while (held?.length > MAX_CHANGES) apply(...held.shift());
  $("pause").textContent = held ? `Resume (${count} new)` : "Pause";
  $("pause").setAttribute("aria-pressed", String(held !== null));
}

$("pause").onclick = () => {
  const waiting = held ?? [];
  held = held ? null : [];
  for (const [records, time] of waiting) apply(records, time);
  holdNote();
};

$("more").onclick = async () => {
  $("more").disabled = true;
  try {
    await load(lastLoaded);
  } catch (error) {
    note(error.message);
  }
  $("more").disabled = false;
};

$("prefix-form").onsubmit = (event) => {
  event.preventDefault();
  prefix = $("prefix").value;
  watchKeys();
};

$("token-form").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  $("token-form").hidden = true;
  collections = null;
  start();
};

async function start() {
  // An error is shown with the status.
  await findCollections().catch(() => {});
  watchKeys();
}

start();
watchStatus();
