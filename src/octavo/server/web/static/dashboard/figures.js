/** Figures as text: every element with data-figure="a.b" shows the snapshot's a.b. */

const counts = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

const formats = {
  count: (value) => counts.format(value),
  percent: (value) => `${(100 * value).toFixed(1)}%`,
  time: formatTime,
};

/** @param {number} ms @returns {string} in the unit that people would say */
export function formatTime(ms) {
  if (ms >= 9950) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 995) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 99.5 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`;
}

/** @type {(value: number) => string} */
export const formatCount = formats.count;

/** @param {number} seconds @returns {string} as «3 d 4 h», the two largest units */
export function formatSpan(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const whole = Math.max(0, Math.floor(seconds));
  const first = units.findIndex(([, size]) => whole >= size);
  if (first < 0) return "0 s";
  const said = [];
  let left = whole;
  for (const [name, size] of units.slice(first, first + 2)) {
    const number = Math.floor(left / size);
    left %= size;
    if (number > 0) said.push(`${number} ${name}`);
  }
  return said.join(" ");
}

/**
 * @param {ParentNode} root whose figures are found once
 * @returns {(snapshot: object) => void} shows a snapshot in them
 */
export function collectFigures(root) {
  const figures = [...root.querySelectorAll("[data-figure]")].map((element) => ({
    element,
    path: element.dataset.figure.split("."),
    format: formats[element.dataset.as] ?? String,
  }));
  return (snapshot) => {
    for (const { element, path, format } of figures) {
      const value = path.reduce((part, name) => part[name], snapshot);
      setText(element, value === null ? "–" : format(value));
    }
  };
}

/** Touches the page only where the text differs. @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
