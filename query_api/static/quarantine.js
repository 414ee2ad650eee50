// Open items by group, one item with its bytes, and their replay: all by /api/v1/quarantine.
"use strict";

const API = "/api/v1/quarantine";
const EVERY_MS = 3000;
const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-GB");

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Requested-By": "console" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(API + path, { ...options, signal: AbortSignal.timeout(60000) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail ?? answer.statusText);
  return told;
}

// Builds elements with text only: what comes from a till is never taken for markup.
function cell(text, kind) {
  const td = document.createElement("td");
  if (kind) td.className = kind;
  td.textContent = text ?? "–";
  return td;
}

function buttonCell(text, act) {
  const td = document.createElement("td"), button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", act);
  td.append(button);
  return td;
}

function rows(id, items, cells) {
  $(id).replaceChildren(...items.map((item) => {
    const tr = document.createElement("tr");
    tr.append(...cells(item));
    return tr;
  }));
}

const quoted = (text) => `'${String(text).replaceAll("'", "''")}'`;

function conditionOf(group) {
  const parts = [];
  if ("rule" in group) parts.push(`reason = ${quoted(group.rule)}`);
  if (group.source) parts.push(`source_system = ${quoted(group.source)}`);
  if (group.stage) parts.push(`stage = ${quoted(group.stage)}`);
  return parts.join(" AND ") || "true";
}

async function showGroups() {
  const by = $("by").value;
  const { items } = await ask(`/groups?by=${by}`);
  rows("groups", items, (group) => [
    cell(by.split(",").map((key) => group[key] ?? "–").join(" · ")),
    cell(whole.format(group.items), "number"), cell(group.amount, "number"),
    cell(group.first), cell(group.last),
    buttonCell("Look", () => { $("where").value = conditionOf(group); showItems(group).catch(failed); })]);
}

async function showItems(group) {
  const narrowed = new URLSearchParams({ first: 20 });
  if (group.rule) narrowed.set("rule", group.rule);
  if (group.source) narrowed.set("source", group.source);
  const { items } = await ask(`/items?${narrowed}`);
  rows("items", items, (item) => [
    cell(item.quarantined_ts), cell(item.reason), cell(item.source_system),
    cell(whole.format(item.attempts), "number"),
    buttonCell("Show", () => showItem(item.item_id).catch(failed))]);
}

async function showItem(id) {
  const { items: [item] } = await ask(`/items/${encodeURIComponent(id)}`);
  $("item").hidden = false;
  $("item").textContent = JSON.stringify(item, null, 2);
}

function assignments(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const place = line.indexOf("=");
    if (place < 1) throw new Error(`${line}: write field = expression`);
    return [line.slice(0, place).trim(), line.slice(place + 1).trim()];
  }));
}

async function follow(id) {
  for (;;) {
    const told = await ask(`/replays/${encodeURIComponent(id)}`);
    $("said").textContent = `${whole.format(told.sent)} sent, ${whole.format(told.resolved)} resolved, ` +
      `${whole.format(told.failed_again)} failed again, ${whole.format(told.pending)} pending`;
    show(told.reasons.length || told.error ? { error: told.error, reasons: told.reasons } : null);
    if (told.state === "failed" || (told.state === "sent" && told.pending === 0)) return;
    await new Promise((done) => { setTimeout(done, 500); });
  }
}

function show(value) {
  $("outcome").hidden = value === null;
  $("outcome").textContent = value === null ? "" : JSON.stringify(value, null, 2);
}

async function replay(dryRun) {
  const request = { where: $("where").value, set: assignments($("set").value), dry_run: dryRun };
  const told = await ask("/replays", request);
  if (!dryRun) return follow(told.replay_id);
  $("said").textContent = `would send ${whole.format(told.matched)}`;
  show({ by_rule: told.by_rule, first: told.items.slice(0, 5) });
}

function failed(error) {
  $("said").textContent = error.message;
  show(null);
}

$("replay").addEventListener("submit", (event) => {
  event.preventDefault();
  const buttons = $("replay").querySelectorAll("button");
  buttons.forEach((button) => { button.disabled = true; });
  replay(event.submitter?.value !== "real").then(showGroups).catch(failed)
    .finally(() => buttons.forEach((button) => { button.disabled = false; }));
});
$("by").addEventListener("change", () => showGroups().catch(failed));

function turn() {
  const shown = document.hidden ? Promise.resolve() : showGroups();
  shown.then(() => { $("live").textContent = `live, ${new Date().toLocaleTimeString("en-GB")}`; })
    .catch((error) => { $("live").textContent = error.message; })
    .finally(() => setTimeout(turn, EVERY_MS));
}
turn();
