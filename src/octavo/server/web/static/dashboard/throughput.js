/** Tokens a second over the last minute: two lines, the generated ones filled. */

import { beginDrawing, drawText, roundUp } from "./canvas.js";
import { formatCount } from "./figures.js";
import { History } from "./history.js";

const SAMPLES = 240; // as many snapshots as the server keeps
const HEIGHT = 96;
const TOP = 14;

export class ThroughputChart {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.generated = new History(SAMPLES);
    this.prefilled = new History(SAMPLES);
  }

  clear() {
    this.generated.clear();
    this.prefilled.clear();
  }

  /** @param {object} snapshot */
  take(snapshot) {
    this.generated.push(snapshot.throughput.generated);
    this.prefilled.push(snapshot.throughput.prefilled);
  }

  /** @param {Record<string, string>} colours */
  draw(colours) {
    const { context, width } = beginDrawing(this.canvas, HEIGHT);
    const most = roundUp(Math.max(peak(this.generated), peak(this.prefilled)));
    const place = (history, index) => [
      width * ((SAMPLES - history.length + index + 1) / SAMPLES),
      HEIGHT - 1 - (HEIGHT - TOP - 2) * (history.at(index) / most),
    ];
    drawLevel(context, width, TOP, most, colours);
    drawLine(context, this.prefilled, place, colours.prefill, [4, 3]);
    fillBelow(context, this.generated, place, colours.decode);
    drawLine(context, this.generated, place, colours.decode, []);
    this.canvas.setAttribute("aria-label", this.describe());
  }

  describe() {
    const length = this.generated.length;
    if (length === 0) return "Throughput: nothing yet";
    const [now, most] = [this.generated.at(length - 1), peak(this.generated)];
    return `Generated tokens a second over the last minute of work: now ${formatCount(now)}, at most ${formatCount(most)}`;
  }
}

function peak(history) {
  let most = 0;
  for (let index = 0; index < history.length; index++) most = Math.max(most, history.at(index));
  return most;
}

function drawLevel(context, width, y, value, colours) {
  context.strokeStyle = colours.line;
  context.lineWidth = 1;
  context.setLineDash([]);
  context.beginPath();
  for (const level of [y + 0.5, HEIGHT - 0.5]) {
    context.moveTo(0, level);
    context.lineTo(width, level);
  }
  context.stroke();
  drawText(context, `${formatCount(value)}/s`, 0, 7, colours["ink-soft"]);
}

function trace(context, history, place) {
  context.beginPath();
  for (let index = 0; index < history.length; index++) context.lineTo(...place(history, index));
}

function drawLine(context, history, place, colour, dash) {
  trace(context, history, place);
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

function fillBelow(context, history, place, colour) {
  if (history.length === 0) return;
  trace(context, history, place);
  context.lineTo(place(history, history.length - 1)[0], HEIGHT);
  context.lineTo(place(history, 0)[0], HEIGHT);
  context.globalAlpha = 0.18;
  context.fillStyle = colour;
  context.fill();
  context.globalAlpha = 1;
}
