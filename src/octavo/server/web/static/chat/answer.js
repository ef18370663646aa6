/** One answer as it comes: its text, what it cost, how fast it was. Plain data, as the store keeps it. */

/**
 * @typedef {object} Stats
 * @property {number | null} ttftMs from the request to the first of the answer, as the browser saw it
 * @property {number | null} tokensPerS after the first
 * @property {number} promptTokens
 * @property {number} cachedTokens of them
 * @property {number} completionTokens
 */

export class Answer {
  role = "assistant";
  text = "";
  reasoning = "";
  /** @type {"" | "stop" | "length" | "stopped"} how it ended; "stopped" by the person, "" not at its own end */
  finish = "";
  /** @type {{title: string, message: string} | null} */
  error = null;
  #beginMs;
  #firstMs = null;
  #lastMs = null;
  #firstTokens = 0;
  #usage = null;

  /** @param {number} nowMs */
  constructor(nowMs) {
    this.#beginMs = nowMs;
  }

  /**
   * Take a chunk of either kind of completions.
   * @param {object} chunk
   * @param {number} nowMs
   * @returns {{text: string, reasoning: string}} what it brought
   */
  take(chunk, nowMs) {
    this.#usage = chunk.usage ?? this.#usage;
    const choice = chunk.choices[0];
    if (!choice) return { text: "", reasoning: "" };
    const text = choice.text ?? choice.delta.content ?? "";
    const reasoning = choice.delta?.reasoning_content ?? "";
    this.text += text;
    this.reasoning += reasoning;
    this.finish = choice.finish_reason ?? this.finish;
    if (text !== "" || reasoning !== "") this.#clock(nowMs);
    return { text, reasoning };
  }

  #clock(nowMs) {
    this.#lastMs = nowMs;
    if (this.#firstMs !== null) return;
    this.#firstMs = nowMs;
    this.#firstTokens = this.#usage?.completion_tokens ?? 0;
  }

  /** @returns {Stats} so far */
  get stats() {
    const usage = this.#usage;
    const tokens = usage?.completion_tokens ?? 0;
    const seconds = (this.#lastMs - this.#firstMs) / 1000;
    return {
      ttftMs: this.#firstMs === null ? null : this.#firstMs - this.#beginMs,
      tokensPerS: seconds > 0 ? (tokens - this.#firstTokens) / seconds : null,
      promptTokens: usage?.prompt_tokens ?? 0,
      cachedTokens: usage?.prompt_tokens_details?.cached_tokens ?? 0,
      completionTokens: tokens,
    };
  }

  /** As plain data. */
  toJSON() {
    const { role, text, reasoning, finish, error, stats } = this;
    return { role, text, reasoning, finish, error, stats };
  }
}

/** @param {Stats} stats @param {string} finish @returns {string[]} what is shown under an answer */
export function describe(stats, finish) {
  const parts = [];
  if (stats.ttftMs !== null) parts.push(`TTFT ${duration(stats.ttftMs)}`);
  if (stats.tokensPerS !== null) parts.push(`${rate(stats.tokensPerS)} tokens/s`);
  if (stats.promptTokens > 0) {
    parts.push(`${count(stats.promptTokens)} in, ${count(stats.cachedTokens)} cached`);
    parts.push(`${count(stats.completionTokens)} out`);
  }
  if (finish === "length") parts.push("cut off at its token limit");
  if (finish === "stopped") parts.push("stopped");
  return parts;
}

function rate(perS) {
  return perS < 1000 ? perS.toFixed(1) : count(Math.round(perS));
}

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

function count(number) {
  return number.toLocaleString("en");
}
