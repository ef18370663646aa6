/** The dashboard: snapshots come as events, and are drawn at most four times a second while somebody can see them. */

import { byId } from "../dom.js";
import { readColours } from "./canvas.js";
import { collectFigures, formatSpan, setText } from "./figures.js";
import { PoolGrid } from "./pool.js";
import { StepChart } from "./steps.js";
import { EventReader } from "./stream.js";
import { ThroughputChart } from "./throughput.js";

const DRAW_EVERY_MS = 250;

const showFigures = collectFigures(document);
const throughput = new ThroughputChart(byId("rate"));
const steps = new StepChart(byId("steps"), byId("step-said"), byId("step-table").tBodies[0], () => steps.draw(readColours()));
const pool = new PoolGrid(byId("pool"), byId("cell-size"));

const reader = new EventReader("/dashboard/events", {
  onData: take,
  onAlive: () => {
    setLost(false);
    askToDraw();
  },
  onLost: showLoss,
});

/** @type {object | null} the snapshot that came last, as /openapi.json describes it */
let newest = null;
let isAsked = false;
let drawnAt = -Infinity;

function take(snapshot) {
  if (newest !== null && snapshot.boot_id !== newest.boot_id) [throughput, steps, pool].forEach((part) => part.clear());
  newest = snapshot;
  throughput.take(snapshot);
}

/** Draws soon, once, however often it is asked; not at all in a tab that nobody sees. */
function askToDraw() {
  if (isAsked || document.hidden) return;
  isAsked = true;
  const wait = Math.max(0, drawnAt + DRAW_EVERY_MS - performance.now());
  setTimeout(() => requestAnimationFrame(draw), wait);
}

function draw() {
  isAsked = false;
  drawnAt = performance.now();
  if (newest === null) return;
  show(newest);
  const colours = readColours();
  [throughput, steps, pool].forEach((part) => part.draw(colours));
}

function show(snapshot) {
  showFigures(snapshot);
  steps.take(snapshot);
  pool.take(snapshot);
  byId("state").dataset.state = snapshot.engine;
  setText(byId("uptime"), formatSpan(Math.max(snapshot.uptime_s, Date.now() / 1000 - (snapshot.time_s - snapshot.uptime_s))));
}

function showLoss(reason, waitMs) {
  const last = newest === null ? "" : ` What you see is of ${new Date(1000 * newest.time_s).toLocaleTimeString()}.`;
  setText(byId("lost"), `${reason}${last} Trying again in ${formatSpan(Math.ceil(waitMs / 1000))}.`);
  setLost(true);
}

function setLost(isLost) {
  byId("lost").hidden = !isLost;
  document.body.classList.toggle("is-lost", isLost);
}

function toggleHold() {
  if (reader.isHeld) reader.goOn();
  else reader.hold();
  byId("hold").setAttribute("aria-pressed", String(reader.isHeld));
}

byId("hold").addEventListener("click", toggleHold);
document.addEventListener("visibilitychange", askToDraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", askToDraw);
new ResizeObserver(askToDraw).observe(byId("main"));
reader.run().catch((error) => {
  setText(byId("lost"), "This page has failed, and shows nothing new; load it again.");
  setLost(true);
  throw error;
});
