/** Copying to the clipboard, also where the browser has no API for it: over plain HTTP from another machine. */

import { element, quietButton } from "./dom.js";

const SHOWN_MS = 1500;

/**
 * @param {string} label as a screen reader says it
 * @param {() => string} text to copy, when it is pressed
 * @returns {HTMLButtonElement}
 */
export function copyButton(label, text) {
  const button = quietButton("Copy", { ariaLabel: label });
  button.onclick = async () => {
    button.textContent = (await copy(text())) ? "Copied" : "Not allowed";
    setTimeout(() => (button.textContent = "Copy"), SHOWN_MS);
  };
  return button;
}

async function copy(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => copyBySelection(text));
  }
  return copyBySelection(text);
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const field = element("textarea", { value: text, className: "unseen" });
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return isCopied;
}
