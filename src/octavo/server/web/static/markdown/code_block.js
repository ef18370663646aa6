/** A block of code that grows a line at a time, with a button that copies it. */

import { copyButton } from "../clipboard.js";
import { element } from "../dom.js";

export class CodeBlock {
  #done = document.createTextNode("");
  #last = document.createTextNode("");

  /** @param {string} language as the fence names it */
  constructor(language) {
    const code = element("code", {}, this.#done, this.#last);
    const copy = copyButton("Copy code", () => code.textContent);
    const head = element("figcaption", {}, element("span", { textContent: language.trim().split(/\s/)[0] }), copy);
    this.node = element("figure", { className: "code" }, head, element("pre", { tabIndex: 0 }, code));
  }

  /** @param {string} line that is whole */
  addLine(line) {
    this.#last.data = "";
    this.#done.appendData(`${line}\n`);
  }

  /** @param {string} line that may go on */
  showLast(line) {
    if (this.#last.data !== line) this.#last.data = line;
  }
}
