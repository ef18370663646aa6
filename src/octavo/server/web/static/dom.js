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

/** @param {string} id @returns {HTMLElement} which the page has */
export function byId(id) {
  return document.getElementById(id);
}
