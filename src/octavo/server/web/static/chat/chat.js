/** What happens in a chat: send, stop, retry, edit; one answer at a time. */

import { Answer } from "./answer.js";
import { streamAnswer } from "./api.js";
import { Conversation } from "./conversation.js";
import { explain } from "./explain.js";

export class Chat {
  /** @type {AbortController | null} of the answer that comes */
  #stopper = null;

  /**
   * @param {object} parts
   * @param {import("./api.js").ServedModel} parts.model
   * @param {import("./settings.js").Settings} parts.settings
   * @param {import("./thread.js").Thread} parts.thread
   * @param {import("./announcer.js").Announcer} parts.announcer
   * @param {object} hooks
   * @param {(isBusy: boolean) => void} hooks.onBusy
   * @param {(conversation: Conversation) => void} hooks.onChange has it kept
   */
  constructor({ model, settings, thread, announcer }, { onBusy, onChange }) {
    Object.assign(this, { model, settings, thread, announcer, onBusy, onChange });
    this.conversation = new Conversation();
  }

  get isBusy() {
    return this.#stopper !== null;
  }

  /** Show another one; an answer that still comes to this one is stopped. @param {Conversation} conversation */
  open(conversation) {
    this.stop();
    this.conversation = conversation;
    this.thread.show(conversation.messages);
  }

  stop() {
    this.#stopper?.abort();
  }

  /** @param {string} text */
  send(text) {
    this.conversation.say(text);
    this.thread.addUser(text);
    return this.#answer();
  }

  /** Answer again. @param {number} at of the answer */
  retry(at) {
    if (this.isBusy) return undefined;
    this.conversation.cutBefore(at);
    this.thread.cutBefore(at);
    return this.#answer();
  }

  /** Go on from a changed message. @param {number} at @param {string} text */
  edit(at, text) {
    if (this.isBusy) return undefined;
    this.conversation.cutBefore(at);
    this.thread.cutBefore(at);
    return this.send(text);
  }

  async #answer() {
    const { conversation, thread } = this;
    const { path, body } = conversation.request(this.model, this.settings);
    const answer = new Answer(performance.now());
    const view = thread.addAnswer(answer);
    const stopper = this.#begin(conversation, answer);
    thread.toEnd();
    try {
      for await (const chunk of streamAnswer(path, body, stopper.signal)) {
        view.add(answer.take(chunk, performance.now()));
      }
    } catch (error) {
      if (error.name === "AbortError") answer.finish = "stopped";
      else answer.error = explain(error, answer.text !== "");
    }
    view.finish();
    this.#end(conversation, answer, stopper);
  }

  #begin(conversation, answer) {
    conversation.messages.push(answer);
    const stopper = (this.#stopper = new AbortController());
    this.onBusy(true);
    this.onChange(conversation);
    this.announcer.say("Answering");
    return stopper;
  }

  #end(conversation, answer, stopper) {
    if (this.#stopper === stopper) {
      this.#stopper = null;
      this.onBusy(false);
    }
    this.onChange(conversation);
    const { completionTokens } = answer.stats;
    const { error } = answer;
    this.announcer.say(error ? `${error.title}. ${error.message}` : `End of the answer, ${completionTokens} tokens`);
  }
}
