/** What a screen reader hears of an answer: each part when it is complete, not every token. */

import { element } from "../dom.js";

const KEPT = 20;

export class Announcer {
  #region;

  /** @param {HTMLElement} region with aria-live */
  constructor(region) {
    this.#region = region;
  }

  /** @param {string} text */
  say(text) {
    this.#region.append(element("p", { textContent: text }));
    while (this.#region.childElementCount > KEPT) this.#region.firstElementChild.remove();
  }
}
