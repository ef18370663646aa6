/** A message of the person's: as it was written, with buttons to copy it, and to change it and go on from there. */

import { copyButton } from "../clipboard.js";
import { element, quietButton } from "../dom.js";

export class UserView {
  #text;
  #onEdit;

  /**
   * @param {string} text
   * @param {(text: string) => void} onEdit is told the new text
   */
  constructor(text, onEdit) {
    this.#text = text;
    this.#onEdit = onEdit;
    this.node = element("article", { className: "message user", ariaLabel: "You" });
    this.#showText();
  }

  #showText() {
    const edit = quietButton("Edit", { ariaLabel: "Edit message", onclick: () => this.#showForm() });
    edit.dataset.change = "";
    const said = element("div", { className: "said", textContent: this.#text });
    const buttons = element("div", { className: "actions" }, copyButton("Copy message", () => this.#text), edit);
    this.node.replaceChildren(said, buttons);
  }

  #showForm() {
    const rows = Math.min(8, this.#text.split("\n").length + 1);
    const field = element("textarea", { value: this.#text, ariaLabel: "Message", rows });
    const send = element("button", { type: "submit", className: "primary", textContent: "Send again" });
    send.dataset.change = "";
    const cancel = element("button", { type: "button", textContent: "Cancel" });
    const note = element("small", { textContent: "What follows is replaced." });
    const buttons = element("div", { className: "actions" }, note, cancel, send);
    const form = element("form", { className: "editor" }, field, buttons);
    const leave = () => {
      this.#showText();
      this.node.querySelector("[data-change]").focus();
    };
    cancel.onclick = leave;
    form.onsubmit = (event) => {
      event.preventDefault();
      if (field.value.trim() !== "" && !send.disabled) this.#onEdit(field.value);
    };
    field.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) form.onsubmit(event);
      if (event.key === "Escape") {
        event.stopPropagation();
        leave();
      }
    };
    this.node.replaceChildren(form);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}
