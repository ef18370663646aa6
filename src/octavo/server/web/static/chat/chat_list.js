/** The chats that are kept: the list of them, the one that is open, new ones, and their end. */

import { byId, element, quietButton } from "../dom.js";
import { Conversation } from "./conversation.js";

const OPEN_CHAT = "octavo.open-chat";

export class ChatList {
  /**
   * @param {import("./chat.js").Chat} chat that shows the open one
   * @param {import("./store.js").ChatStore} store
   * @param {Storage} tab remembers over a reload which is open
   * @param {() => void} onOpen
   */
  constructor(chat, store, tab, onOpen) {
    Object.assign(this, { chat, store, tab, onOpen });
    byId("new-chat").onclick = () => this.open("");
    byId("delete-all").onclick = () => {
      if (!confirm("Delete all chats that this browser keeps?")) return;
      store.clear();
      this.#leaveDeleted();
    };
    addEventListener("pagehide", () => chat.isBusy && store.save(chat.conversation));
    this.open(tab.getItem(OPEN_CHAT));
  }

  /** @param {string | null} id a new one where none has it */
  open(id) {
    this.chat.open(new Conversation(this.store.find(id)));
    this.tab.setItem(OPEN_CHAT, this.chat.conversation.id);
    byId("not-kept").hidden = true;
    if (byId("chats").matches(":popover-open")) byId("chats").hidePopover();
    this.#show();
    this.onOpen();
  }

  /** Have it as it is now. @param {Conversation} conversation */
  keep(conversation) {
    if (!conversation.isDeleted) byId("not-kept").hidden = this.store.save(conversation);
    this.#show();
  }

  #drop(id) {
    this.store.remove(id);
    if (id === this.chat.conversation.id) this.#leaveDeleted();
    else this.#show();
    byId("new-chat").focus();
  }

  #leaveDeleted() {
    this.chat.conversation.isDeleted = true;
    this.open("");
  }

  #show() {
    const { id: openId, messages } = this.chat.conversation;
    byId("welcome").hidden = messages.length > 0;
    byId("chat-list").replaceChildren(...this.store.list().map((kept) => this.#entry(kept, kept.id === openId)));
  }

  #entry({ id, title }, isOpen) {
    const open = quietButton(title, { className: "quiet open", onclick: () => this.open(id) });
    if (isOpen) open.setAttribute("aria-current", "true");
    const label = `Delete «${title}»`;
    const drop = quietButton("×", { className: "quiet drop", ariaLabel: label, onclick: () => this.#drop(id) });
    return element("li", {}, open, drop);
  }
}
