/** The browser's storage, or where it is forbidden one that lasts as long as the page. */

/**
 * @param {"localStorage" | "sessionStorage"} kind the latter is the tab's own
 * @returns {Storage | MemoryStorage}
 */
export function openStorage(kind) {
  try {
    return window[kind];
  } catch {
    return new MemoryStorage();
  }
}

export class MemoryStorage {
  #items = new Map();

  getItem(key) {
    return this.#items.get(key) ?? null;
  }

  setItem(key, value) {
    this.#items.set(key, value);
  }

  removeItem(key) {
    this.#items.delete(key);
  }
}
