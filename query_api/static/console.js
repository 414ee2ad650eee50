// Asks GraphQL every second and shows the answers. Three questions, so that a part that is down
// leaves the others on the screen.
"use strict";

const EVERY_MS = 1000;
const SALES = `query Console {
  kpis { revenue grossRevenue returns orders lines customers averageOrderValue }
  salesSeries { at revenue }
  revenueByCountry(first: 8) { country region orders revenue }
  topProducts(first: 8) { stockCode description quantity revenue }
}`;
const STAGES = "query Stages { pipeline { stages { name state lag lagSeconds p50Ms p99Ms } } }";
const LEDGER = `query Ledger {
  pipeline { ledger { accepted duplicates quarantined resolved inFlight balanced } }
}`;

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-GB");
const money = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const rough = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

async function ask(query) {
  const answer = await fetch("/graphql", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query }),
    signal: AbortSignal.timeout(20000),
  });
  const body = await answer.json();
  if (body.errors?.length) throw new Error(body.errors[0].message);
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  return body.data;
}

// Builds elements with text only: what comes from a till is never taken for markup.
function cell(text, kind) {
  const td = document.createElement("td");
  if (kind) td.className = kind;
  td.textContent = text ?? "–";
  return td;
}

function barCell(text, share) {
  const td = document.createElement("td");
  td.className = "bar";
  const bar = document.createElement("i");
  bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  const label = document.createElement("span");
  label.textContent = text ?? "unknown";
  td.append(bar, label);
  return td;
}

function rows(id, items, cells) {
  $(id).replaceChildren(...items.map((item) => {
    const tr = document.createElement("tr");
    tr.append(...cells(item));
    return tr;
  }));
}

function showSales({ kpis, salesSeries, revenueByCountry, topProducts }) {
  for (const key of ["revenue", "grossRevenue", "returns"]) $(key).textContent = rough.format(kpis[key]);
  for (const key of ["orders", "lines", "customers"]) $(key).textContent = whole.format(kpis[key]);
  $("averageOrderValue").textContent = kpis.averageOrderValue === null ? "–" : money.format(kpis.averageOrderValue);
  showSeries(salesSeries);
  const topCountry = Number(revenueByCountry[0]?.revenue ?? 1);
  rows("countries", revenueByCountry, (c) => [
    barCell(c.country, c.revenue / topCountry), cell(c.region),
    cell(whole.format(c.orders), "number"), cell(money.format(c.revenue), "number")]);
  const topProduct = Number(topProducts[0]?.revenue ?? 1);
  rows("products", topProducts, (p) => [
    cell(p.stockCode), barCell(p.description ?? p.stockCode, p.revenue / topProduct),
    cell(whole.format(p.quantity), "number"), cell(money.format(p.revenue), "number")]);
}

function showSeries(series) {
  const chart = $("chart");
  const values = series.map((point) => Number(point.revenue));
  const high = Math.max(1, ...values), low = Math.min(0, ...values);
  const height = 100, scale = height / (high - low), zero = high * scale;
  chart.setAttribute("viewBox", `0 0 ${Math.max(1, values.length)} ${height}`);
  chart.replaceChildren(...values.map((value, place) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    bar.setAttribute("x", place + 0.1);
    bar.setAttribute("width", 0.8);
    bar.setAttribute("y", value >= 0 ? zero - value * scale : zero);
    bar.setAttribute("height", Math.abs(value) * scale);
    if (value < 0) bar.setAttribute("class", "negative");
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `${series[place].at.slice(0, 10)}: ${money.format(value)}`;
    bar.append(title);
    return bar;
  }));
  $("span").textContent = series.length
    ? `${series[0].at.slice(0, 10)} to ${series[series.length - 1].at.slice(0, 10)}` : "";
}

const STATES = { ready: "good", starting: "warn", degraded: "warn", stopped: "bad", failed: "bad" };
const ms = (value) => (value === null ? "–" : value < 1000 ? `${rough.format(value)} ms` : `${(value / 1000).toFixed(1)} s`);

function showStages({ pipeline }) {
  rows("stages", pipeline.stages, (s) => [
    cell(s.name), cell(s.state, `state ${STATES[s.state] ?? ""}`),
    cell(s.lag === null ? "–" : whole.format(s.lag), "number"),
    cell(s.lagSeconds === null ? "–" : `${s.lagSeconds.toFixed(1)} s`, "number"),
    cell(ms(s.p50Ms), "number"), cell(ms(s.p99Ms), "number")]);
}

function showLedger({ pipeline: { ledger } }) {
  $("balanced").className = `state ${ledger.balanced ? "good" : "bad"}`;
  $("balanced").textContent = ledger.balanced ? "balanced" : "not balanced";
  const figures = { Accepted: "accepted", Duplicates: "duplicates", Quarantined: "quarantined",
    Resolved: "resolved", "In flight": "inFlight" };
  $("ledger").replaceChildren(...Object.entries(figures).flatMap(([label, key]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = label;
    dd.textContent = whole.format(ledger[key]);
    return [dt, dd];
  }));
}

function noLedger(error) {
  $("balanced").className = "state bad";
  $("balanced").textContent = error.message;
  $("ledger").replaceChildren();
}

function live(error) {
  $("live").className = `state muted ${error ? "bad" : "good"}`;
  $("live").textContent = error ? error.message : `live, ${new Date().toLocaleTimeString("en-GB")}`;
}

// Each question waits for its own last answer, and longer after a slow one: watching a platform that is
// busy must not keep it busy.
function every(query, show, failed) {
  const turn = async () => {
    const begun = performance.now();
    if (!document.hidden) {
      try { show(await ask(query)); } catch (error) { failed(error); }
    }
    setTimeout(turn, Math.max(EVERY_MS, 3 * (performance.now() - begun)));
  };
  turn();
}

every(SALES, (data) => { showSales(data); live(null); }, live);
every(STAGES, showStages, () => rows("stages", [], () => []));
every(LEDGER, showLedger, noLedger);
