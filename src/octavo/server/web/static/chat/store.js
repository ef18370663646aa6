/** The chats that this browser keeps: the newest, and no more than a few megabytes of them. */

export const MAX_CHATS = 50;
export const MAX_CHARS = 2_000_000;
const KEY = "octavo.chats";

/**
 * @typedef {object} StoredChat
 * @property {string} id
 * @property {string} title
 * @property {object[]} messages
 */

export class ChatStore {
  #storage;

  /** @param {Storage} storage */
  constructor(storage) {
    this.#storage = storage;
  }

  /** @returns {StoredChat[]} newest first; none where what is stored is not ours */
  list() {
    try {
      const chats = JSON.parse(this.#storage.getItem(KEY) ?? "[]");
      return chats.filter((chat) => typeof chat.id === "string" && Array.isArray(chat.messages));
    } catch {
      return [];
    }
  }

  /** @param {string} id @returns {StoredChat | undefined} */
  find(id) {
    return this.list().find((chat) => chat.id === id);
  }

  /** Put it first; the oldest give way. Returns whether there was room for it. @param {StoredChat} chat */
  save(chat) {
    const chats = [chat, ...this.list().filter((other) => other.id !== chat.id)].slice(0, MAX_CHATS);
    for (; chats.length > 0; chats.pop()) {
      const text = JSON.stringify(chats);
      if (text.length <= MAX_CHARS && this.#write(text)) return true;
    }
    return false;
  }

  /** @param {string} id */
  remove(id) {
    this.#write(JSON.stringify(this.list().filter((chat) => chat.id !== id)));
  }

  clear() {
    this.#storage.removeItem(KEY);
  }

  #write(text) {
    try {
      this.#storage.setItem(KEY, text);
      return true;
    } catch {
      return false; // the browser's own limit
    }
  }
}
