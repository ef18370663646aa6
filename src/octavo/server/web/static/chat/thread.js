/** The messages on the page, in order; it stays at the end of an answer unless the person has scrolled away. */

import { AnswerView } from "./answer_view.js";
import { UserView } from "./user_view.js";

const NEAR_PX = 48;

export class Thread {
  #scroller;
  #list;
  #hooks;
  #isFollowing = true;
  #lastTop = 0;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} list in it, that holds the messages
   * @param {object} hooks
   * @param {(at: number, text: string) => void} hooks.onEdit
   * @param {(at: number) => void} hooks.onRetry
   * @param {(text: string) => void} hooks.onPart
   * @param {boolean} hooks.isPlain
   */
  constructor(scroller, list, hooks) {
    this.#scroller = scroller;
    this.#list = list;
    this.#hooks = hooks;
    scroller.addEventListener("scroll", () => this.#noteScroll(), { passive: true });
    new ResizeObserver(() => this.#follow()).observe(scroller);
  }

  /** Show these messages alone. @param {object[]} messages */
  show(messages) {
    this.#list.replaceChildren();
    for (const message of messages) {
      if (message.role === "user") this.addUser(message.text);
      else {
        const view = this.addAnswer(message, () => {});
        view.add(message);
        view.finish();
      }
    }
    this.toEnd();
  }

  /** @param {string} text */
  addUser(text) {
    const at = this.#list.childElementCount;
    this.#list.append(new UserView(text, (changed) => this.#hooks.onEdit(at, changed)).node);
  }

  /** @param {object} answer @param {(text: string) => void} [onPart] @returns {AnswerView} */
  addAnswer(answer, onPart = this.#hooks.onPart) {
    const at = this.#list.childElementCount;
    const { onRetry, isPlain } = this.#hooks;
    const hooks = { onRetry: () => onRetry(at), onDraw: () => this.#follow(), onPart, isPlain };
    const view = new AnswerView(answer, hooks);
    this.#list.append(view.node);
    return view;
  }

  /** Drop message `at` and all behind it. @param {number} at */
  cutBefore(at) {
    while (this.#list.childElementCount > at) this.#list.lastElementChild.remove();
  }

  toEnd() {
    this.#isFollowing = true;
    this.#follow();
  }

  #follow() {
    if (this.#isFollowing) this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** Only whoever scrolls up leaves the end: an answer that grows does not. */
  #noteScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    if (isAtEnd) this.#isFollowing = true;
    else if (scrollTop < this.#lastTop) this.#isFollowing = false;
    this.#lastTop = scrollTop;
  }
}
