/** The list of kept chats. */

import { element } from "../dom.js";

/**
 * @param {HTMLElement} list
 * @param {import("./store.js").StoredChat[]} chats
 * @param {string} currentId
 * @param {{onOpen: (id: string) => void, onDelete: (id: string) => void}} hooks
 */
export function showChats(list, chats, currentId, { onOpen, onDelete }) {
  list.replaceChildren(...chats.map(({ id, title }) => {
    const open = element("button", { type: "button", className: "quiet open", textContent: title });
    if (id === currentId) open.setAttribute("aria-current", "true");
    open.onclick = () => onOpen(id);
    const drop = element("button", { type: "button", className: "quiet drop", textContent: "×", ariaLabel: `Delete «${title}»` });
    drop.onclick = () => onDelete(id);
    return element("li", {}, open, drop);
  }));
}
