/** A conversation: its messages, and the request that has them answered. */

/** What a completion is asked for where the person has set nothing: the API's own default is 16. */
export const CONTINUED_TOKENS = 256;
const TITLE_CHARS = 60;

export class Conversation {
  /** Whether the person has deleted it: then it is not kept again, though its answer may just end. */
  isDeleted = false;

  /** @param {{id?: string, messages?: object[]}} [stored] */
  constructor(stored = {}) {
    this.id = stored.id ?? Math.random().toString(36).slice(2, 12);
    this.messages = stored.messages ?? [];
  }

  get title() {
    const text = this.messages.find((message) => message.role === "user")?.text.trim() ?? "";
    const line = text.replace(/\s+/g, " ");
    return line.length > TITLE_CHARS ? `${line.slice(0, TITLE_CHARS - 1)}…` : line || "New chat";
  }

  /** Add what the person says. @param {string} text */
  say(text) {
    this.messages.push({ role: "user", text });
  }

  /** Drop message `at` and all behind it. @param {number} at */
  cutBefore(at) {
    this.messages.length = at;
  }

  /**
   * @param {import("./api.js").ServedModel} model
   * @param {import("./settings.js").Settings} settings
   * @returns {{path: string, body: object}} what asks for the next message
   */
  request(model, settings) {
    if (!model.hasChatTemplate) {
      const prompt = this.messages.map((message) => message.text).join("");
      const body = { model: model.name, prompt, max_tokens: CONTINUED_TOKENS, ...settings.sampling };
      return { path: "/v1/completions", body };
    }
    const system = settings.systemPrompt.trim();
    const messages = this.messages
      .filter((message) => message.role === "user" || message.text !== "")
      .map(({ role, text }) => ({ role, content: text }));
    if (system !== "") messages.unshift({ role: "system", content: system });
    return { path: "/v1/chat/completions", body: { model: model.name, messages, ...settings.sampling } };
  }

  toJSON() {
    return { id: this.id, title: this.title, messages: this.messages };
  }
}
