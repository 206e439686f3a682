// Runs: the list on the left, one run on the right, both polled while the page is visible.
// All text of the server is set as textContent, never as markup.

import { LossChart } from "./chart.js";
import { startPlayground } from "./playground.js";

const stages = ["PREPARING", "TRAINING", "EVALUATING", "PUBLISHING", "SUCCEEDED"];
const terminal = ["SUCCEEDED", "FAILED", "CANCELLED"];
const $ = id => document.getElementById(id);
const chart = new LossChart($("chart"), $("chart-text"));
const steps = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

let runs = [];
let selected = null;
let refreshing = null;
let metrics = { key: "", train: [], validation: [], after: 0, newest: 0 };

const stateOf = run => (run.state ?? "STATE_UNSPECIFIED").replace("STATE_", "");
const idOf = run => run.name.replace("runs/", "");
const fixed = (value, digits) => value === undefined || value === null ? "–" : Number(value).toFixed(digits);
const percent = value => `${fixed(value * 100, 1)} %`;

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) {
    return `${s} s`;
  }
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

function ago(time) {
  return time ? `${duration((Date.now() - Date.parse(time)) / 1000).replace(/ \d+ (s|min)$/, "")} ago` : "";
}

async function getJson(url) {
  const response = await fetch(url, { headers: { accept: "application/json" } });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(body.error?.message ?? `${url}: ${response.status}`);
  }
  return body;
}

function showList() {
  $("runs-empty").hidden = runs.length > 0;
  $("runs-empty").textContent = "No runs yet. Start one with llmpipe train FILE.yaml.";
  const list = $("run-list");
  for (const [i, run] of runs.entries()) {
    let item = list.children[i];
    if (!item) {
      item = make("li", {}, make("button", { type: "button" },
        make("span", { className: "name" }), make("span", { className: "badge" }),
        make("span", { className: "age" }), make("span", { className: "loss" }), make("progress", { max: 1 })));
      item.firstChild.addEventListener("click", () => select(item.dataset.run));
      list.append(item);
    }
    item.dataset.run = run.name;
    const button = item.firstChild;
    const [name, badge, age, loss, progress] = button.children;
    const state = stateOf(run);
    button.setAttribute("aria-current", String(run.name === selected));
    name.textContent = idOf(run);
    badge.textContent = state.toLowerCase();
    badge.dataset.state = state;
    age.textContent = ago(run.createTime);
    const best = run.progress?.bestValidationLoss ?? run.progress?.trainLoss;
    loss.textContent = best === undefined ? "" : `loss ${fixed(best, 3)}`;
    progress.hidden = terminal.includes(state);
    progress.value = run.progress?.fraction ?? 0;
    progress.setAttribute("aria-label", `Progress of ${idOf(run)}`);
  }
  while (list.children.length > runs.length) {
    list.lastChild.remove();
  }
}

function showStages(run) {
  const state = stateOf(run);
  const stopped = ["FAILED", "CANCELLED", "CANCELLING"].includes(state);
  // Where a stopped run was is told by what it has.
  const reached = stopped ? (run.evaluation ? 3 : run.dataset ? 1 : 0) : stages.indexOf(state);
  $("stages").replaceChildren(...stages.map((stage, i) => {
    const item = make("li", { textContent: stage === "SUCCEEDED" ? "Served" : stage[0] + stage.slice(1).toLowerCase() });
    item.dataset.at = i < reached || state === "SUCCEEDED" ? "done" : i > reached ? "later" : stopped ? "broken" : "now";
    if (item.dataset.at === "now") {
      item.setAttribute("aria-current", "step");
    }
    return item;
  }));
}

function tile(label, value, unit) {
  return [make("dt", { textContent: label }), make("dd", { textContent: value }, ...(unit ? [" ", make("small", { textContent: unit })] : []))];
}

function showTiles(run) {
  const p = run.progress ?? {};
  const running = !terminal.includes(stateOf(run));
  const tiles = [
    tile("Step", steps.format(p.step ?? 0), p.totalSteps ? `of ${steps.format(p.totalSteps)}` : ""),
    tile("Train loss", fixed(p.trainLoss, 3)),
    tile("Validation loss", fixed(p.validationLoss, 3)),
    tile("Best validation", fixed(p.bestValidationLoss, 3)),
    tile("Tokens seen", compact.format(p.tokenCount ?? 0)),
    tile("Training time", duration(p.trainSeconds ?? 0)),
    ...(running ? [tile("Speed", p.tokensPerSecond ? compact.format(p.tokensPerSecond) : "–", "tokens/s")] : []),
    ...(running ? [tile("Time left", p.remainingSeconds === undefined ? "–" : duration(p.remainingSeconds))] : []),
  ];
  $("tiles").replaceChildren(...tiles.map(parts => make("div", {}, ...parts)));
}

// A classifier predicts once a document.
const lossUnit = ({ labels, spec }) =>
  labels?.length > 0 ? "nats a document" : spec?.model?.objective === "masked" ? "nats per masked token" : "nats per token";

function showEvaluation(run) {
  const result = run.evaluation;
  $("evaluation").hidden = !result?.model;
  if (!result?.model) {
    return;
  }
  const { classification, forgetting } = result;
  const masked = result.model.objective === "masked";
  if (classification) {
    showClasses(classification);
  } else {
    showQualities(run, masked);
  }
  const counted = classification ? "documents" : masked ? "masked tokens" : "tokens";
  const speed = result.tokensPerSecond && !classification ? `, ${compact.format(result.tokensPerSecond)} tokens/s` : "";
  $("evaluation-facts").textContent = `${result.split ?? ""} split, ${steps.format(result.model.tokenCount ?? 0)} ${counted}${speed}`;
  $("evaluation-text").hidden = !classification;
  $("evaluation-text").textContent = classification
    ? `Accuracy ${percent(classification.accuracy)}, macro F1 ${percent(classification.macroF1)}, loss ${fixed(result.model.loss, 4)} ${lossUnit(run)}; `
      + `always “${classification.majorityLabel}” would be ${percent(classification.majorityAccuracy)}`
    : "";
  $("forgetting").hidden = !forgetting || Boolean(classification);
  if (forgetting) {
    const figures = q => `${fixed(q.loss, 4)} (${fixed(q.perplexity, 2)})`;
    $("forgetting-figures").textContent = masked ? "Loss (pseudo-perplexity)" : "Loss (perplexity)";
    $("forgetting-rows").replaceChildren(
      tableRow("base", [figures(forgetting.baseOld), figures(forgetting.baseNew)]),
      tableRow("fine-tuned", [figures(forgetting.modelOld), figures(forgetting.modelNew)]));
  }
}

function tableRow(name, cells) {
  return make("tr", {}, make("th", { scope: "row", textContent: name }), ...cells.map(textContent => make("td", { textContent })));
}

function showEvaluationHead(titles) {
  $("evaluation-head").replaceChildren(...titles.map(textContent => make("th", { scope: "col", textContent })));
}

function showClasses({ classes }) {
  showEvaluationHead(["Class", "Documents", "Precision", "Recall", "F1", ...classes.map(c => `Taken for ${c.label}`)]);
  $("evaluation-rows").replaceChildren(...classes.map(c => tableRow(c.label,
    [steps.format(c.documentCount), percent(c.precision), percent(c.recall), percent(c.f1), ...c.predictedCounts.map(n => steps.format(n))])));
}

function showQualities(run, masked) {
  const { model, ngram, ngramOrder } = run.evaluation;
  const rows = [[idOf(run), model], ...(ngram ? [[`${ngramOrder}-gram (Kneser-Ney)`, ngram]] : [])];
  const columns = [
    ["Loss", "loss", 4, 1, -1],
    [masked ? "Pseudo-perplexity" : "Perplexity", "perplexity", 2, 1, -1],
    ...(Number(model.impossibleCount ?? 0) > 0 ? [["Tokens of probability 0", "impossibleCount", 0, 1, -1]] : []),
    ...(masked ? [] : [["Bits per byte", "bitsPerByte", 4, 1, -1]]),
    [masked ? "Masked-token accuracy" : "Accuracy", "accuracy", 1, 100, 1],
    ...(rows.some(([, quality]) => quality.bleu !== undefined) ? [["BLEU", "bleu", 2, 1, 1]] : []),
  ];
  const text = ([, key, digits, factor], quality) =>
    quality[key] === undefined ? "–" : (quality[key] * factor).toFixed(digits) + (key === "accuracy" ? " %" : "");
  showEvaluationHead(["Model", ...columns.map(([title]) => title)]);
  $("evaluation-rows").replaceChildren(...rows.map(([name, quality]) => make("tr", {},
    make("th", { scope: "row", textContent: name }),
    ...columns.map(column => {
      const [, key, , , sign] = column;
      const others = rows.map(r => r[1]).filter(q => q !== quality && q[key] !== undefined);
      const best = others.length > 0 && quality[key] !== undefined && others.every(q => sign * quality[key] > sign * q[key]);
      return make("td", { textContent: text(column, quality), className: best ? "best" : "", title: best ? "better" : "" });
    }))));
}

function showRun(run) {
  const state = stateOf(run);
  $("run").hidden = false;
  $("run-name").textContent = idOf(run);
  $("run-state").textContent = state.toLowerCase();
  $("run-state").dataset.state = state;
  const model = run.spec?.model;
  $("run-facts").textContent = [
    model ? `${model.layers ?? "?"} layers, width ${model.width ?? "?"}, context ${model.context ?? "?"}` : "",
    run.attempt > 1 ? `attempt ${run.attempt}` : "",
    run.modelVersion || "",
  ].filter(Boolean).join(" · ");
  showStages(run);
  const share = state === "SUCCEEDED" ? 1 : run.progress?.fraction ?? 0;
  $("run-progress").value = share;
  $("run-percent").textContent = `${Math.floor(share * 100)} %`;
  $("run-error").hidden = !run.error;
  $("run-error").textContent = run.error ? `${run.error.reason}: ${run.error.message}` : "";
  showTiles(run);
  $("loss-unit").textContent = lossUnit(run);
  showEvaluation(run);

  const workers = run.workers ?? [];
  $("workers-empty").hidden = workers.length > 0;
  $("workers").replaceChildren(...workers.map(w => make("li", {},
    make("span", { textContent: `${w.rank}  ${w.workerId}` }), make("span", { className: "device", textContent: w.device }))));
  const events = (run.events ?? []).slice(-100).reverse();
  $("events").replaceChildren(...events.map(e => {
    const item = make("li", {}, make("time", { dateTime: e.time, textContent: e.time ? new Date(e.time).toLocaleTimeString("en-GB") : "" }), make("span", { textContent: e.message }));
    item.dataset.kind = e.kind;
    return item;
  }));
}

async function loadMetrics(run) {
  // After a rollback, or from a checkpoint on, steps come again with other numbers.
  const rollback = run.events?.findLast(e => e.kind === "ROLLED_BACK")?.sequence ?? 0;
  const key = `${run.name}#${run.attempt}#${rollback}`;
  const newest = Number(run.progress?.step ?? 0);
  if (metrics.key !== key || newest < metrics.newest) {
    metrics = { key, train: [], validation: [], after: 0, newest };
  }
  const mine = metrics;
  mine.newest = newest;
  let page;
  do {
    page = (await getJson(`/api/runs/${idOf(run)}/metrics?after=${mine.after}`)).metrics ?? [];
    for (const m of page) {
      const step = Number(m.step);
      if (step <= mine.after) {
        continue;
      }
      // What is not finite is a string in JSON.
      if (Number.isFinite(m.trainLoss)) {
        mine.train.push({ x: step, y: m.trainLoss });
      }
      if (Number.isFinite(m.validationLoss)) {
        mine.validation.push({ x: step, y: m.validationLoss });
      }
      mine.after = step;
    }
  } while (page.length > 0 && mine.after < newest);
  if (mine === metrics) {
    chart.show(mine.train, mine.validation, Number(run.progress?.totalSteps ?? 0));
  }
}

async function select(name) {
  selected = name;
  history.replaceState(null, "", `#${name}`);
  showList();
  await refreshing;
  await refresh();
}

// One look at a time: a second call joins the one that is under way.
function refresh() {
  return refreshing ??= look().finally(() => { refreshing = null; });
}

async function look() {
  try {
    runs = (await getJson("/api/runs")).runs ?? [];
    if (!runs.some(r => r.name === selected)) {
      selected = runs.find(r => !terminal.includes(stateOf(r)))?.name ?? runs[0]?.name ?? null;
    }
    showList();
    if (selected) {
      const wanted = selected;
      const { run } = await getJson(`/api/${wanted}`);
      if (wanted === selected) {
        showRun(run);
        await loadMetrics(run);
      }
    } else {
      $("run").hidden = true;
    }
    $("connection").textContent = "";
  } catch (error) {
    $("connection").textContent = error instanceof TypeError ? "The Gateway does not answer." : error.message;
    if (runs.length === 0) {
      $("runs-empty").hidden = false;
      $("runs-empty").textContent = "Runs cannot be shown.";
    }
  }
}

async function poll() {
  for (;;) {
    if (!document.hidden) {
      await refresh();
    }
    const busy = runs.some(r => !terminal.includes(stateOf(r)));
    await new Promise(resolve => setTimeout(resolve, busy ? 1000 : 3000));
  }
}

if (location.hash.startsWith("#runs/")) {
  selected = location.hash.slice(1);
}
startPlayground();
poll();
