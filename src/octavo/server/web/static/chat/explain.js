/** Errors as the person needs them: what happened, and what to do. */

import { ConnectionLostError, ServerError } from "./api.js";

const TITLES = {
  context_length_exceeded: "The conversation is too long",
  invalid_api_key: "The server wants its key",
  queue_full: "The server is busy",
  loading: "The model is still loading",
  shutting_down: "The server is ending",
  engine_dead: "The engine has died",
  engine_stalled: "The engine stalls",
  timeout: "The answer took too long",
};
const REMEDIES = {
  context_length_exceeded: "Edit an earlier message, or begin a new chat.",
  invalid_api_key: "Reload the page and enter the key as the password.",
};

/**
 * @param {Error} error
 * @param {boolean} hasPart whether some of the answer had come
 * @returns {{title: string, message: string}}
 */
export function explain(error, hasPart) {
  if (error instanceof ConnectionLostError) {
    return {
      title: hasPart ? "The connection was lost" : "The server cannot be reached",
      message: `${hasPart ? "What had come is kept. " : ""}See that octavo serve is running, then retry.`,
    };
  }
  if (!(error instanceof ServerError)) return { title: "The page failed", message: String(error) };
  const wait = error.retryAfterS > 0 ? `Retry in ${error.retryAfterS} s.` : "";
  const remedy = REMEDIES[error.code] ?? wait;
  return {
    title: TITLES[error.code] ?? (error.status < 500 ? "The server refused this" : "The server failed"),
    message: `${sentence(error.message)} ${remedy}`.trim(),
  };
}

function sentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}
