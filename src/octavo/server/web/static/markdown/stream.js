/**
 * Markdown that arrives in pieces. What is complete is rendered once and stays; each time only the last
 * block is rendered again, so that a token costs no more in an answer of many blocks than in a short one. It
 * costs as much as its block is long: a table or a paragraph without end is rendered whole each time.
 */

import { closesFence, renderBlocks } from "./blocks.js";
import { CodeBlock } from "./code_block.js";
import {
  FENCE, HEADING, ITEM, QUOTE, RULE, indentOf, interruptsParagraph, isBlank, isTableRule, untabbed,
} from "./patterns.js";

const ONLY_MARKS = /^[\s`~#>*_|+-]*$/;

export class MarkdownStream {
  /** The line that may go on. */
  #partial = "";
  /** @type {string[]} lines of the last block, an item of a list being one */
  #open = [];
  #isInItemsCode = false;
  /** @type {Node[]} as the last block is shown for now */
  #shown = [];
  /** @type {{block: CodeBlock, fence: string} | null} */
  #code = null;

  /**
   * @param {HTMLElement} container that holds the nodes
   * @param {(text: string) => void} [onComplete] is told the text of each block that will not change
   */
  constructor(container, onComplete = () => {}) {
    this.container = container;
    this.onComplete = onComplete;
  }

  /** Take more text, and show it. @param {string} text */
  push(text) {
    const lines = (this.#partial + text).split("\n");
    this.#partial = lines.pop();
    for (const line of lines) this.#feed(untabbed(line.replace(/\r$/, "")));
    this.#show();
  }

  /** Show all there is: nothing follows. */
  finish() {
    const last = this.#partial;
    this.#partial = "";
    if (last !== "") this.#feed(untabbed(last));
    this.#close();
    if (this.#code) this.onComplete(this.#code.block.node.textContent);
    this.#code = null;
  }

  #feed(line) {
    if (this.#code) {
      if (!closesFence(line, this.#code.fence)) return this.#code.block.addLine(line);
      this.#code.block.showLast("");
      this.#code = null;
      return;
    }
    if (this.#beginsBlock(line)) this.#close();
    if (this.#open.length === 0) {
      if (isBlank(line)) return;
      const fence = FENCE.exec(line);
      if (fence) return this.#openCode(fence);
    } else if (ITEM.test(this.#open[0]) && FENCE.test(line.trimStart())) this.#isInItemsCode = !this.#isInItemsCode;
    this.#open.push(line);
  }

  #openCode(fence) {
    this.#replaceShown([]);
    this.#code = { block: new CodeBlock(fence[2]), fence: fence[1] };
    this.container.append(this.#code.block.node);
  }

  /** Whether `line` is not part of the open block. */
  #beginsBlock(line) {
    const [first, second] = this.#open;
    if (first === undefined) return false;
    if (ITEM.test(first) && !RULE.test(first)) {
      if (this.#isInItemsCode || isBlank(line) || indentOf(line) >= 2) return false;
      return isBlank(this.#open.at(-1)) || ITEM.test(line) || interruptsParagraph(line);
    }
    if (isBlank(line) || HEADING.test(first) || RULE.test(first)) return true;
    if (QUOTE.test(first)) return !QUOTE.test(line);
    if (second !== undefined && isTableRule(second)) return !line.includes("|");
    return interruptsParagraph(line);
  }

  #close() {
    this.#replaceShown(renderBlocks(this.#open));
    if (this.#shown.length > 0) this.onComplete(this.#shown.map((node) => node.textContent).join("\n"));
    this.#shown = [];
    this.#open = [];
    this.#isInItemsCode = false;
  }

  #show() {
    if (this.#code) {
      const mayClose = this.#partial.trim() !== "" && this.#code.fence.startsWith(this.#partial.trim());
      return this.#code.block.showLast(mayClose ? "" : this.#partial);
    }
    const last = ONLY_MARKS.test(this.#partial) ? [] : [untabbed(this.#partial)];
    this.#replaceShown(renderBlocks([...this.#open, ...last]));
  }

  /** Items go into the list in front of them, if there is one of their kind. */
  #replaceShown(nodes) {
    for (const node of this.#shown) node.remove();
    const list = this.container.lastElementChild;
    const [first, ...rest] = nodes;
    const isMore = /^[OU]L$/.test(first?.tagName ?? "") && list?.tagName === first.tagName;
    this.#shown = isMore ? [...first.children, ...rest] : nodes;
    if (isMore) list.append(...first.children);
    this.container.append(...(isMore ? rest : nodes));
  }
}
