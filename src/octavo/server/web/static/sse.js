/** Server-sent events: the data of each, from a text that arrives in pieces. */

export class EventParser {
  #buffer = "";
  /** @type {string[]} */
  #data = [];
  #id = "";
  /** The id of the last whole event that had one. */
  lastId = "";

  /** @param {string} text @returns {string[]} the data of the events that are now complete */
  push(text) {
    const lines = (this.#buffer + text).split("\n");
    this.#buffer = lines.pop();
    const events = [];
    for (const line of lines.map((raw) => raw.replace(/\r$/, ""))) {
      if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line.startsWith("id:")) this.#id = line.slice(line[3] === " " ? 4 : 3);
      else if (line === "") {
        this.lastId = this.#id;
        if (this.#data.length > 0) events.push(this.#data.join("\n"));
        this.#data = [];
      }
    }
    return events;
  }
}

/**
 * @param {ReadableStream<Uint8Array>} body of a response
 * @returns {AsyncGenerator<string>} the data of its events, as they come
 */
export async function* readEvents(body) {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield* parser.push(decoder.decode(value, { stream: true }));
  }
}
