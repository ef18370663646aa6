/** A canvas as sharp as the screen, and the page's colours for it. */

/**
 * @param {HTMLCanvasElement} canvas that fills its place's width
 * @param {number} height in CSS pixels
 * @returns {{context: CanvasRenderingContext2D, width: number}} of the canvas, cleared
 */
export function beginDrawing(canvas, height) {
  const scale = devicePixelRatio;
  const width = canvas.clientWidth;
  const [pixelWidth, pixelHeight] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== pixelWidth || canvas.height !== pixelHeight) {
    canvas.width = pixelWidth;
    canvas.height = pixelHeight;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width };
}

/** @returns {Record<string, string>} the stylesheet's custom properties as they are now, light or dark */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "ink-soft", "line", "surface", "focus", "decode", "prefill", "time", "free", "cached", "private", "shared"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} x
 * @param {number} y of its middle
 * @param {string} colour
 * @param {CanvasTextAlign} [align]
 */
export function drawText(context, text, x, y, colour, align = "left") {
  context.font = "12px system-ui, sans-serif";
  context.textAlign = align;
  context.textBaseline = "middle";
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

/** @param {number} value @returns {number} the least that is no less and reads well: a digit and a half, then zeros */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((candidate) => candidate >= value);
}
