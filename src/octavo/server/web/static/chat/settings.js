/** The system prompt and the sampling settings: a form, kept by the browser, and as fields of a request. */

import { element } from "../dom.js";

const KEY = "octavo.settings";
const FIELDS = [
  { name: "temperature", label: "Temperature", min: 0, max: 100, hint: "0: the likeliest" },
  { name: "top_p", label: "Top-p", min: 0, max: 1, hint: "keep the likeliest part" },
  { name: "top_k", label: "Top-k", min: 0, max: 2147483648, step: 1, hint: "0 keeps all" },
  { name: "min_p", label: "Min-p", min: 0, max: 1, hint: "drop the unlikely" },
  { name: "max_tokens", label: "Max tokens", min: 1, max: 1073741824, step: 1, hint: "of the answer" },
  { name: "seed", label: "Seed", min: -9007199254740991, max: 9007199254740991, step: 1, hint: "repeats an answer" },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.01, max: 100, hint: "above 1: fewer" },
  { name: "presence_penalty", label: "Presence penalty", min: -2, max: 2, hint: "said at all" },
  { name: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, hint: "each time said" },
];

export class Settings {
  #form;
  #storage;

  /**
   * @param {HTMLFormElement} form that holds the field of the system prompt; the others are put into it
   * @param {Storage} storage
   * @param {Record<string, string>} defaults what a field that is left empty stands for
   */
  constructor(form, storage, defaults) {
    this.#form = form;
    this.#storage = storage;
    form.querySelector("#sampling").append(...FIELDS.map((field) => fieldRow(field, defaults[field.name] ?? "")));
    this.#load();
    form.addEventListener("input", () => this.#save());
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => this.#save()));
  }

  get systemPrompt() {
    return this.#form.elements.system.value;
  }

  /** @returns {Record<string, number>} those that were set, by their names in a request */
  get sampling() {
    const set = FIELDS.filter(({ name }) => this.#form.elements[name].value !== "");
    return Object.fromEntries(set.map(({ name }) => [name, this.#form.elements[name].valueAsNumber]));
  }

  /** @returns {HTMLInputElement | null} the first field whose value cannot be sent */
  get invalid() {
    return this.#form.querySelector("input:invalid");
  }

  #load() {
    let kept = {};
    try {
      kept = JSON.parse(this.#storage.getItem(KEY) ?? "{}");
    } catch {
      // what is stored is not ours: the fields stay empty
    }
    for (const [name, value] of Object.entries(kept)) {
      const field = this.#form.elements.namedItem(name);
      if (field && typeof value === "string") field.value = value;
    }
  }

  #save() {
    const values = Object.fromEntries([...new FormData(this.#form)].filter(([, value]) => value !== ""));
    try {
      this.#storage.setItem(KEY, JSON.stringify(values));
    } catch {
      // full or forbidden: they hold until the page is closed
    }
  }
}

function fieldRow({ name, label, min, max, step = "any", hint }, placeholder) {
  const id = `setting-${name}`;
  const input = element("input", { id, name, type: "number", min, max, step, placeholder, inputMode: "decimal" });
  input.setAttribute("aria-describedby", `${id}-hint`);
  const note = element("small", { id: `${id}-hint`, textContent: hint });
  return element("div", { className: "field" }, element("label", { htmlFor: id, textContent: label }), input, note);
}
