/** An answer on the page, drawn at most once a frame however fast its tokens come. */

import { copyButton } from "../clipboard.js";
import { element, quietButton } from "../dom.js";
import { MarkdownStream } from "../markdown/stream.js";
import { describe } from "./answer.js";

/**
 * @typedef {object} AnswerHooks
 * @property {() => void} onRetry
 * @property {() => void} onDraw after the page has changed
 * @property {(text: string) => void} onPart is told each part that is complete
 * @property {boolean} isPlain no Markdown: the text goes on with what the person wrote
 */

export class AnswerView {
  #answer;
  #hooks;
  #text;
  #reasoning;
  #pending = { text: "", reasoning: "" };
  #frame = 0;
  #thought = element("details", { className: "reasoning", hidden: true });
  #summary = element("summary", { textContent: "Thinking…" });
  #stats = element("p", { className: "stats figure" });
  #fault = element("div", { className: "banner bad", hidden: true });

  /**
   * @param {import("./answer.js").Answer} answer one that comes, or one as the store kept it
   * @param {AnswerHooks} hooks
   */
  constructor(answer, hooks) {
    this.#answer = answer;
    this.#hooks = hooks;
    const [body, thoughts] = [element("div", { className: "prose" }), element("div", { className: "prose" })];
    this.#text = hooks.isPlain ? new PlainStream(body) : new MarkdownStream(body, hooks.onPart);
    this.#reasoning = new MarkdownStream(thoughts);
    this.#thought.append(this.#summary, thoughts);
    this.node = element("article", { className: "message answer", ariaLabel: "Answer" },
      this.#thought, body, this.#fault, element("footer", {}, this.#stats, this.#buttons()));
  }

  /** Show more. @param {{text: string, reasoning: string}} piece */
  add(piece) {
    this.#pending.text += piece.text;
    this.#pending.reasoning += piece.reasoning;
    this.node.ariaBusy = "true";
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Show all of it, and how it ended. */
  finish() {
    cancelAnimationFrame(this.#frame);
    this.#draw();
    this.#text.finish();
    this.#reasoning.finish();
    this.#summary.textContent = "Reasoning";
    this.node.ariaBusy = "false";
    const { error } = this.#answer;
    this.#fault.hidden = error === null;
    if (error) this.#fault.replaceChildren(element("strong", { textContent: error.title }), ` ${error.message}`);
    this.#hooks.onDraw();
  }

  #draw() {
    this.#frame = 0;
    const { text, reasoning } = this.#pending;
    this.#pending = { text: "", reasoning: "" };
    if (reasoning !== "") {
      this.#thought.hidden = false;
      this.#reasoning.push(reasoning);
    }
    if (text !== "") {
      this.#summary.textContent = "Reasoning";
      this.#text.push(text);
    }
    const parts = describe(this.#answer.stats, this.#answer.finish);
    this.#stats.replaceChildren(...parts.map((part) => element("span", { textContent: part })));
    this.#hooks.onDraw();
  }

  #buttons() {
    const retry = quietButton("Retry", { ariaLabel: "Retry answer", onclick: this.#hooks.onRetry });
    retry.dataset.change = "";
    return element("div", { className: "actions" }, copyButton("Copy answer", () => this.#answer.text), retry);
  }
}

/** Text as it is. */
class PlainStream {
  #node = document.createTextNode("");

  constructor(container) {
    container.classList.add("plain");
    container.append(this.#node);
  }

  push(text) {
    this.#node.appendData(text);
  }

  finish() {}
}
