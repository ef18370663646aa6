/** The KV blocks as a grid. States differ in shape as well as in colour: who sees no colours reads it too. */

import { beginDrawing } from "./canvas.js";
import { formatCount, setText } from "./figures.js";

const LARGEST_CELL = 24;
const SMALLEST_CELL = 3;
const HEIGHT = 264;
const DETAIL_CELL = 9; // below it a cell is one colour

export class PoolGrid {
  /** @param {HTMLCanvasElement} canvas @param {HTMLElement} cellSize where it is said what a cell is */
  constructor(canvas, cellSize) {
    this.canvas = canvas;
    this.cellSize = cellSize;
    this.clear();
  }

  clear() {
    this.blocks = null;
  }

  /** @param {object} snapshot */
  take(snapshot) {
    this.blocks = snapshot.blocks;
  }

  /** @param {Record<string, string>} colours */
  draw(colours) {
    const cells = this.blocks?.cells ?? "";
    const size = fitCells(cells.length, this.canvas.clientWidth);
    const columns = Math.max(1, Math.floor(this.canvas.clientWidth / size));
    const { context } = beginDrawing(this.canvas, Math.max(1, Math.ceil(cells.length / columns)) * size);
    for (let cell = 0; cell < cells.length; cell++) {
      drawCell[cells[cell]](context, (cell % columns) * size, Math.floor(cell / columns) * size, size, colours);
    }
    this.describe();
  }

  describe() {
    if (this.blocks === null) return;
    const { free, cached, private: own, shared, blocks_per_cell: perCell } = this.blocks;
    setText(this.cellSize, perCell === 1 ? "a block" : `${formatCount(perCell)} blocks, in the state of most of them`);
    const parts = [[shared, "shared"], [own, "private"], [cached, "cached"], [free, "free"]];
    const said = parts.map(([number, name]) => `${formatCount(number)} ${name}`).join(", ");
    this.canvas.setAttribute("aria-label", `KV blocks: ${said}`);
  }
}

/** The largest cells of which `count` fit the width and a bearable height. */
function fitCells(count, width) {
  let size = LARGEST_CELL;
  while (size > SMALLEST_CELL && Math.ceil(count / Math.max(1, Math.floor(width / size))) * size > HEIGHT) size--;
  return size;
}

const drawCell = {
  f(context, x, y, size, colours) {
    if (size < DETAIL_CELL) return fill(context, x, y, size - 1, size - 1, colours.free);
    context.strokeStyle = colours.free;
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, size - 3, size - 3);
  },
  c(context, x, y, size, colours) {
    if (size < DETAIL_CELL) return fill(context, x, y, size - 1, size - 1, colours.cached);
    context.strokeStyle = colours.cached;
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, size - 3, size - 3);
    const top = Math.ceil((size - 2) / 2);
    fill(context, x, y + top, size - 2, size - 2 - top, colours.cached);
  },
  p(context, x, y, size, colours) {
    fill(context, x, y, size - (size < DETAIL_CELL ? 1 : 2), size - (size < DETAIL_CELL ? 1 : 2), colours.private);
  },
  s(context, x, y, size, colours) {
    const side = size - (size < DETAIL_CELL ? 1 : 2);
    fill(context, x, y, side, side, colours.shared);
    if (size < DETAIL_CELL) return;
    const dot = Math.max(2, Math.round(side / 3));
    const inset = (side - dot) / 2;
    fill(context, x + inset, y + inset, dot, dot, colours.surface);
  },
};

function fill(context, x, y, width, height, colour) {
  context.fillStyle = colour;
  context.fillRect(x, y, width, height);
}
