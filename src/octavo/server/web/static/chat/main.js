/** The chat page: its parts, put together. */

import { byId, element } from "../dom.js";
import { Announcer } from "./announcer.js";
import { fetchModel } from "./api.js";
import { Chat } from "./chat.js";
import { ChatList } from "./chat_list.js";
import { Composer } from "./composer.js";
import { CONTINUED_TOKENS } from "./conversation.js";
import { explain } from "./explain.js";
import { Settings } from "./settings.js";
import { openStorage } from "./storage.js";
import { ChatStore } from "./store.js";
import { Thread } from "./thread.js";

/** @param {import("./api.js").ServedModel} model */
function start(model) {
  const storage = openStorage("localStorage");
  const announcer = new Announcer(byId("announcer"));
  const settings = new Settings(byId("settings-form"), storage, defaultsOf(model));
  const thread = new Thread(byId("thread"), byId("messages"), {
    onEdit: (at, text) => whenValid(settings, () => chat.edit(at, text)),
    onRetry: (at) => whenValid(settings, () => chat.retry(at)),
    onPart: (text) => announcer.say(text),
    isPlain: !model.hasChatTemplate,
  });
  const send = (text) => whenValid(settings, () => {
    composer.text = "";
    chat.send(text);
  });
  const composer = new Composer(byId("composer"), send, () => chat.stop());
  const chat = new Chat({ model, settings, thread, announcer }, {
    onBusy(isBusy) {
      composer.isBusy = isBusy;
      document.body.classList.toggle("busy", isBusy);
    },
    onChange: (conversation) => chats.keep(conversation),
  });
  byId("reset-settings").onclick = () => byId("settings-form").reset();
  introduce(model, send);
  const tab = openStorage("sessionStorage");
  const chats = new ChatList(chat, new ChatStore(storage), tab, () => composer.focus());
}

/** Run `act`, unless a setting cannot be sent: then go there. */
function whenValid(settings, act) {
  const wrong = settings.invalid;
  if (wrong === null) return act();
  const panel = byId("settings");
  if (getComputedStyle(panel).display === "none") panel.showPopover();
  wrong.reportValidity();
  return undefined;
}

/** What stands for a setting that is left empty. */
function defaultsOf(model) {
  const numbers = Object.entries(model.samplingDefaults).map(([name, value]) => [name, String(value)]);
  const maxTokens = model.hasChatTemplate ? "what is left" : String(CONTINUED_TOKENS);
  return { ...Object.fromEntries(numbers), max_tokens: maxTokens, seed: "random" };
}

/** Say what is served, and what to do with it. */
function introduce(model, send) {
  const context = `${model.maxModelLen.toLocaleString("en")} tokens of context`;
  const name = element("strong", { textContent: model.name });
  byId("model").replaceChildren(name, element("span", { textContent: context }));
  byId("greeting").textContent = model.hasChatTemplate ? `Ask ${model.name} something` : `Let ${model.name} go on`;
  byId("base-note").hidden = model.hasChatTemplate;
  byId("system-field").hidden = !model.hasChatTemplate;
  byId("prompt").placeholder = model.hasChatTemplate ? `Message to ${model.name}` : "The beginning of a text";
  const hints = byId(model.hasChatTemplate ? "chat-hints" : "text-hints");
  hints.hidden = false;
  for (const hint of hints.querySelectorAll("button")) hint.onclick = () => send(hint.textContent);
}

async function boot() {
  const fault = byId("start-fault");
  try {
    const model = await fetchModel();
    fault.hidden = true;
    byId("talk").hidden = false;
    start(model);
  } catch (error) {
    const { title, message } = explain(error, false);
    const again = element("button", { type: "button", textContent: "Try again" });
    again.onclick = boot;
    fault.replaceChildren(element("strong", { textContent: title }), element("span", { textContent: message }), again);
    fault.hidden = false;
  }
}

boot();
