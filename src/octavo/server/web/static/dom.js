/** The one way in which pages make nodes: from names and texts, never from HTML. */

/**
 * @param {string} tag
 * @param {object} [properties] of the node: `className`, `textContent`, `onclick`, `ariaLabel` …
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

/**
 * @param {string} label
 * @param {object} [properties] beyond those of a button that does not stand out
 * @returns {HTMLButtonElement}
 */
export function quietButton(label, properties = {}) {
  return element("button", { type: "button", className: "quiet", textContent: label, ...properties });
}

/** @param {string} id @returns {HTMLElement} which the page has */
export function byId(id) {
  return document.getElementById(id);
}
