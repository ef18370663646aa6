/** The last steps: tokens of each as a stacked bar, its time below. One step can be chosen, by pointer or by key. */

import { beginDrawing, drawText, roundUp } from "./canvas.js";
import { formatCount, formatTime, setText } from "./figures.js";

const STEPS = 64; // as many as a snapshot has
const TOKENS_TOP = 16;
const TOKENS_BASE = 140;
const TIMES_TOP = 168;
const HEIGHT = 220;
const TABLE_ROWS = 12;
const NONE = { step: [], decode_tokens: [], prefill_tokens: [], requests: [], step_ms: [] };

export class StepChart {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} said where one step is put in words
   * @param {HTMLTableSectionElement} tableBody for the newest ones
   * @param {() => void} onChange another step was chosen
   */
  constructor(canvas, said, tableBody, onChange) {
    Object.assign(this, { canvas, said, onChange });
    this.cells = Array.from({ length: TABLE_ROWS }, () => addRow(tableBody));
    canvas.addEventListener("pointermove", (event) => this.choose(this.indexAt(event.offsetX)));
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("focus", () => said.setAttribute("aria-live", "polite"));
    canvas.addEventListener("blur", () => {
      said.setAttribute("aria-live", "off"); // it changes with each step: nobody wants to hear that
      this.choose(null);
    });
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.clear();
  }

  clear() {
    this.steps = NONE;
    this.chosen = null; // a step's number: it stays chosen while bars move
  }

  /** @param {object} snapshot */
  take(snapshot) {
    this.steps = snapshot.steps;
  }

  get count() {
    return this.steps.step.length;
  }

  /** @param {number | null} index */
  choose(index) {
    const chosen = index === null ? null : this.steps.step[index];
    if (chosen === this.chosen) return;
    this.chosen = chosen;
    this.onChange();
  }

  onKey(event) {
    const last = this.count - 1;
    const now = this.chosenIndex < 0 ? last + 1 : this.chosenIndex;
    const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last };
    if (last < 0 || !(event.key in moves)) return;
    event.preventDefault();
    this.choose(Math.min(Math.max(moves[event.key], 0), last));
  }

  get chosenIndex() {
    return this.chosen === null ? -1 : this.steps.step.indexOf(this.chosen);
  }

  indexAt(x) {
    const slot = Math.floor((x / this.canvas.clientWidth) * STEPS) - (STEPS - this.count);
    return slot >= 0 && slot < this.count ? slot : null;
  }

  /** @param {Record<string, string>} colours */
  draw(colours) {
    const { context, width } = beginDrawing(this.canvas, HEIGHT);
    const { decode_tokens: decode, prefill_tokens: prefill, step_ms: times } = this.steps;
    const mostTokens = roundUp(Math.max(1, ...decode.map((tokens, index) => tokens + prefill[index])));
    const mostMs = roundUp(Math.max(1, ...times));
    drawScale(context, width, TOKENS_TOP, TOKENS_BASE, `${formatCount(mostTokens)} tokens`, colours);
    drawScale(context, width, TIMES_TOP, HEIGHT - 1, formatTime(mostMs), colours);
    const slot = width / STEPS;
    const bar = Math.max(1, slot - (slot > 6 ? 2 : 1));
    for (let index = 0; index < this.count; index++) {
      const x = (STEPS - this.count + index) * slot;
      const high = (TOKENS_BASE - TOKENS_TOP) / mostTokens;
      const decodeTop = TOKENS_BASE - visible(decode[index] * high);
      fillBar(context, x, decodeTop, bar, TOKENS_BASE, colours.decode);
      fillBar(context, x, decodeTop - visible(prefill[index] * high), bar, decodeTop, colours.prefill);
      fillBar(context, x, HEIGHT - 1 - visible(times[index] * ((HEIGHT - 1 - TIMES_TOP) / mostMs)), bar, HEIGHT - 1, colours.time);
    }
    if (this.chosenIndex >= 0) frameBar(context, (STEPS - this.count + this.chosenIndex) * slot, slot, colours.focus);
    this.describe();
  }

  describe() {
    const index = this.chosenIndex < 0 ? this.count - 1 : this.chosenIndex;
    setText(this.said, index < 0 ? "No step yet: the engine waits for a request." : this.say(index));
    const summary = index < 0 ? "nothing yet" : `${this.count} steps, up to step ${formatCount(this.steps.step[this.count - 1])}`;
    this.canvas.setAttribute("aria-label", `Tokens and time of the last steps: ${summary}`);
    this.cells.forEach((row, back) => this.fillRow(row, this.count - 1 - back));
  }

  say(index) {
    const { step, decode_tokens: decode, prefill_tokens: prefill, requests, step_ms: times } = this.steps;
    const who = requests[index] === 1 ? "1 request" : `${formatCount(requests[index])} requests`;
    const what = `${formatCount(decode[index])} decode + ${formatCount(prefill[index])} prefill tokens`;
    return `Step ${formatCount(step[index])}: ${what} of ${who} in ${formatTime(times[index])}`;
  }

  fillRow(row, index) {
    const { step, decode_tokens: decode, prefill_tokens: prefill, requests, step_ms: times } = this.steps;
    const known = index >= 0;
    const numbers = known ? [step[index], requests[index], decode[index], prefill[index]].map(formatCount) : ["", "", "", ""];
    [...numbers, known ? formatTime(times[index]) : ""].forEach((text, column) => setText(row[column], text));
  }
}

function addRow(body) {
  const row = body.insertRow();
  return Array.from({ length: 5 }, () => row.insertCell());
}

/** What is there is seen, however little it is. */
function visible(pixels) {
  return pixels > 0 ? Math.max(pixels, 1.5) : 0;
}

function fillBar(context, x, top, width, base, colour) {
  context.fillStyle = colour;
  context.fillRect(x, top, width, base - top);
}

function frameBar(context, x, width, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.strokeRect(x - 0.5, TOKENS_TOP - 1, width, HEIGHT - TOKENS_TOP);
}

function drawScale(context, width, top, base, label, colours) {
  context.fillStyle = colours.line;
  context.fillRect(0, top, width, 1);
  context.fillRect(0, base, width, 1);
  drawText(context, label, 0, top - 8, colours["ink-soft"]);
}
