/** What the page asks of the server, and the two ways in which that fails. */

import { readEvents } from "../sse.js";

/** The server said no, with a status, or within a stream that had begun well: the message names the remedy. */
export class ServerError extends Error {
  constructor(message, { status = 500, code = "", retryAfterS = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfterS });
  }
}

/** Nothing came back, or not all of it. */
export class ConnectionLostError extends Error {}

/**
 * @typedef {object} ServedModel
 * @property {string} name as requests call it
 * @property {number} maxModelLen tokens of prompt and answer together
 * @property {Record<string, number>} samplingDefaults where a request is silent
 * @property {boolean} hasChatTemplate whether it can answer conversations; else it continues texts
 */

/** @returns {Promise<ServedModel>} */
export async function fetchModel() {
  const [models, tokenizer] = await Promise.all([getJson("/v1/models"), getJson("/tokenizer_info")]);
  const card = models.data[0];
  return {
    name: card.id,
    maxModelLen: card.max_model_len,
    samplingDefaults: card.sampling_defaults,
    hasChatTemplate: tokenizer.chat_template !== null,
  };
}

/**
 * @param {string} path of the endpoint
 * @param {object} body of the request; what makes it a stream with its usage is added
 * @param {AbortSignal} signal that ends it
 * @returns {AsyncGenerator<object>} the chunks
 * @throws {ServerError | ConnectionLostError | DOMException} the last one where `signal` ended it
 */
export async function* streamAnswer(path, body, signal) {
  const streamed = { ...body, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  const response = await ask(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(streamed),
    signal,
  });
  try {
    for await (const data of readEvents(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ServerError(chunk.error.message, { code: chunk.error.code ?? "" });
      yield chunk;
    }
  } catch (error) {
    throw lostUnlessKnown(error);
  }
  throw new ConnectionLostError("the stream ended before the answer did");
}

async function getJson(path) {
  return (await ask(path, {})).json();
}

/** Addresses are made from the origin: a page opened with a key in its address has it in relative ones, which fail. */
async function ask(path, options) {
  const response = await fetch(new URL(path, location.origin), options).catch((error) => {
    throw lostUnlessKnown(error);
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new ServerError(said.error?.message ?? `the server answered ${response.status}`, {
    status: response.status,
    code: said.error?.code ?? "",
    retryAfterS: Number(response.headers.get("retry-after") ?? 0),
  });
}

function lostUnlessKnown(error) {
  const isKnown = error instanceof ServerError || error.name === "AbortError";
  return isKnown ? error : new ConnectionLostError(error.message);
}
