/** The browser's storage, or where it is forbidden one that lasts as long as the page. */

/** @returns {Storage | MemoryStorage} */
export function openStorage() {
  try {
    localStorage.getItem("octavo");
    return localStorage;
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
