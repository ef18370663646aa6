/** The list of kept chats. */

import { element, quietButton } from "../dom.js";

/**
 * @param {HTMLElement} list
 * @param {import("./store.js").StoredChat[]} chats
 * @param {string} currentId
 * @param {{onOpen: (id: string) => void, onDelete: (id: string) => void}} hooks
 */
export function showChats(list, chats, currentId, { onOpen, onDelete }) {
  list.replaceChildren(...chats.map(({ id, title }) => {
    const open = quietButton(title, { className: "quiet open", onclick: () => onOpen(id) });
    if (id === currentId) open.setAttribute("aria-current", "true");
    const label = `Delete «${title}»`;
    const drop = quietButton("×", { className: "quiet drop", ariaLabel: label, onclick: () => onDelete(id) });
    return element("li", {}, open, drop);
  }));
}
