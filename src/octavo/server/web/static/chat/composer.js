/** Where the person writes: Enter sends, Shift+Enter is a new line, Esc stops the answer. */

export class Composer {
  #form;
  #field;
  #send;
  #stop;
  #isBusy = false;

  /**
   * @param {HTMLFormElement} form with #prompt, #send and #stop
   * @param {(text: string) => void} onSend
   * @param {() => void} onStop
   */
  constructor(form, onSend, onStop) {
    this.#form = form;
    this.#field = form.querySelector("#prompt");
    this.#send = form.querySelector("#send");
    this.#stop = form.querySelector("#stop");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.#isBusy && this.text.trim() !== "") onSend(this.text);
    });
    this.#field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    this.#field.addEventListener("input", () => this.#fit());
    this.#stop.addEventListener("click", onStop);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector(":popover-open")) onStop();
    });
  }

  get text() {
    return this.#field.value;
  }

  set text(text) {
    this.#field.value = text;
    this.#fit();
  }

  focus() {
    this.#field.focus();
  }

  /** Whether an answer comes: then there is a button to stop it, and what would begin another is off. */
  set isBusy(isBusy) {
    const hadFocus = document.activeElement === this.#stop;
    this.#isBusy = isBusy;
    this.#send.hidden = isBusy;
    this.#stop.hidden = !isBusy;
    if (hadFocus) this.focus();
  }

  #fit() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight + 2}px`;
  }
}
