/**
 * The server's events, for as long as the page is open: reads them, notices silence, and comes back after a loss.
 *
 * fetch() rather than EventSource, because it sees the server's comments (signs of life), the status of a refusal, and
 * lets this page choose when to try again.
 */

import { EventParser } from "../sse.js";

const SILENCE_MS = 6000; // the server gives a sign every two seconds
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;

/** Follows `path`: tells of each event's data, of signs of life, and of a loss with the time of the next try. */
export class EventReader {
  /**
   * @param {string} path
   * @param {{
   *   onData: (data: any) => void,
   *   onAlive: () => void,
   *   onLost: (reason: string, waitMs: number) => void,
   * }} tell
   */
  constructor(path, { onData, onAlive, onLost }) {
    this.url = new URL(path, location.origin);
    this.tell = { onData, onAlive, onLost };
    this.lastId = "";
    this.waitMs = FIRST_WAIT_MS;
    this.isHeld = false;
    this.ending = new AbortController();
    this.goOn();
  }

  /** Reads nothing until `goOn`, which begins where this stopped, as far back as the server keeps events. */
  hold() {
    this.isHeld = true;
    this.mayRead = new Promise((resolve) => {
      this.allow = resolve;
    });
    this.ending.abort();
  }

  goOn() {
    this.isHeld = false;
    this.allow?.();
  }

  /** Never returns. @throws what went wrong in this page */
  async run() {
    for (;;) {
      await this.mayRead;
      const reason = await this.readOnce();
      if (this.isHeld) continue;
      this.tell.onLost(reason, this.waitMs);
      await new Promise((resolve) => setTimeout(resolve, this.waitMs));
      this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
    }
  }

  /** @returns {Promise<string>} why the stream was lost @throws what went wrong in this page */
  async readOnce() {
    const ending = (this.ending = new AbortController());
    const parser = new EventParser();
    let watch = setTimeout(() => ending.abort(), SILENCE_MS);
    try {
      const headers = this.lastId === "" ? {} : { "Last-Event-ID": this.lastId };
      const reply = await orLost(fetch(this.url, { headers, signal: ending.signal, cache: "no-store" }), ending.signal);
      if (!reply.ok) return await readRefusal(reply);
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await orLost(reader.read(), ending.signal);
        if (done) return "The server has ended the stream.";
        clearTimeout(watch);
        watch = setTimeout(() => ending.abort(), SILENCE_MS);
        this.waitMs = FIRST_WAIT_MS;
        const events = parser.push(value);
        this.lastId = parser.lastId || this.lastId;
        events.forEach((data) => this.tell.onData(JSON.parse(data)));
        this.tell.onAlive();
      }
    } catch (error) {
      if (error instanceof StreamLost) return error.message;
      throw error;
    } finally {
      clearTimeout(watch);
      ending.abort();
    }
  }
}

/** Its message tells the page's user why. */
class StreamLost extends Error {}

/**
 * @template T
 * @param {Promise<T>} promise of the network
 * @param {AbortSignal} signal that ended it where the server was silent
 * @returns {Promise<T>}
 * @throws {StreamLost}
 */
function orLost(promise, signal) {
  return promise.catch(() => {
    throw new StreamLost(signal.aborted ? "The server is silent." : "The server cannot be reached.");
  });
}

/** @param {Response} reply @returns {Promise<string>} */
async function readRefusal(reply) {
  try {
    return `The server says: ${(await reply.json()).error.message}.`;
  } catch {
    return `The server answers with status ${reply.status}.`;
  }
}
