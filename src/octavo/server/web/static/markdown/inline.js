/** Emphasis, code, links: Markdown within a line, as DOM nodes. What is not Markdown is text, HTML above all. */

import { element } from "../dom.js";

const MARK = /\\[!-/:-@[-`{-~]|`+|\*{1,3}|_{1,3}|~~|!?\[|<(?=https?:\/\/)|https?:\/\/|\n/g;
const DESTINATION = /\( {0,9}<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?: {1,9}"[^"]{0,500}")? {0,9}\)/y;
const BARE_URL = /https?:\/\/[^\s<>"`]{1,2048}(?![^\s<>"`])/y;
const NEVER_LAST = ".,;:!?'*_~)]";
const MAX_DEPTH = 6;
const MAX_LABEL_CHARS = 500;
const WRAPPERS = { 1: ["em"], 2: ["strong"], 3: ["strong", "em"] };

/**
 * @param {string} text
 * @param {number} [depth] of the emphasis around it
 * @returns {Node[]}
 */
export function renderInline(text, depth = 0) {
  if (depth > MAX_DEPTH) return [document.createTextNode(text)];
  return new InlineScanner(text, depth).nodes();
}

/** @param {string} url @returns {string | null} the address, if it is one of the web */
export function webAddress(url) {
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) return null;
  return new URL(url).href;
}

/** One pass over a text. What is found ahead is kept until the pass is there, so that the time stays linear. */
class InlineScanner {
  /** @type {Node[]} */
  #nodes = [];
  #plain = "";
  #at = 0;
  /** @type {Map<string, number>} mark → where its next partner is, or -1 */
  #partners = new Map();
  /** @type {Map<number, number[]> | undefined} */
  #fences;

  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
  }

  nodes() {
    const mark = new RegExp(MARK);
    for (;;) {
      mark.lastIndex = this.#at;
      const found = mark.exec(this.text);
      if (found === null) break;
      this.#plain += this.text.slice(this.#at, found.index);
      this.#at = found.index;
      if (!this.#take(found[0])) {
        this.#plain += found[0];
        this.#at += found[0].length;
      }
    }
    this.#plain += this.text.slice(this.#at);
    this.#flush();
    return this.#nodes;
  }

  /** Read what `mark` begins; false where it begins nothing. */
  #take(mark) {
    switch (mark[0]) {
      case "\\":
        this.#plain += mark[1];
        this.#at += 2;
        return true;
      case "\n":
        this.#plain = this.#plain.trimEnd();
        return this.#add(element("br"), this.#at + 1);
      case "`":
        return this.#takeCode(mark);
      case "*":
      case "_":
      case "~":
        return this.#takeEmphasis(mark);
      case "<":
        return this.#takeUrl(this.#at + 1, ">");
      case "h":
        return this.#takeUrl(this.#at, "");
      default:
        return this.#takeLink(this.#at + mark.length);
    }
  }

  #takeCode(fence) {
    const begin = this.#at + fence.length;
    const end = this.#nextFence(fence.length, begin);
    if (end === -1) return false;
    const inside = this.text.slice(begin, end).replaceAll("\n", " ");
    const code = inside.trim() !== "" && /^ .* $/.test(inside) ? inside.slice(1, -1) : inside;
    return this.#add(element("code", { textContent: code }), end + fence.length);
  }

  #takeEmphasis(mark) {
    const begin = this.#at + mark.length;
    if (!/\S/.test(this.text[begin] ?? " ")) return false;
    if (mark[0] === "_" && /[\p{L}\p{N}]/u.test(this.text[this.#at - 1] ?? "")) return false;
    const end = this.#find(mark, begin, (at) => this.#closes(mark, at));
    if (end <= begin) return false;
    const inside = renderInline(this.text.slice(begin, end), this.depth + 1);
    const tags = mark === "~~" ? ["del"] : WRAPPERS[mark.length];
    const node = tags.reduceRight((children, tag) => [element(tag, {}, ...children)], inside)[0];
    return this.#add(node, end + mark.length);
  }

  #closes(mark, at) {
    const [before, after] = [this.text[at - 1] ?? " ", this.text[at + mark.length] ?? " "];
    if (/\s|\\/.test(before)) return false;
    if (after === mark[0] || (mark.length === 1 && before === mark)) return false;
    return mark[0] !== "_" || !/[\p{L}\p{N}]/u.test(after);
  }

  /** A link; an image too is but a link here: nothing is loaded that the person did not ask for. */
  #takeLink(begin) {
    const middle = this.#find("](", begin, () => true);
    if (middle === -1) return false;
    const end = this.#labelEnd(begin);
    DESTINATION.lastIndex = end + 1;
    const destination = end === -1 ? null : DESTINATION.exec(this.text);
    const address = destination && webAddress(destination[1]);
    if (!address) return false;
    const label = renderInline(this.text.slice(begin, end), this.depth + 1);
    return this.#add(link(address, ...label), DESTINATION.lastIndex);
  }

  #labelEnd(begin) {
    let open = 1;
    for (let at = begin; at < Math.min(this.text.length, begin + MAX_LABEL_CHARS); at++) {
      if (this.text[at] === "\\") at++;
      else if (this.text[at] === "[") open++;
      else if (this.text[at] === "]" && --open === 0) return at;
    }
    return -1;
  }

  #takeUrl(begin, closing) {
    BARE_URL.lastIndex = begin;
    const found = BARE_URL.exec(this.text);
    const url = found && (closing ? found[0] : withoutPunctuation(found[0]));
    const address = url && webAddress(url);
    if (!address || !this.text.startsWith(closing, begin + url.length)) return false;
    return this.#add(link(address, url), begin + url.length + closing.length);
  }

  /** @returns {number} where `mark` stands next and `fits`, or -1 */
  #find(mark, begin, fits) {
    const known = this.#partners.get(mark);
    if (known === -1 || known >= begin) return known;
    let at = this.text.indexOf(mark, begin);
    while (at !== -1 && !fits(at)) at = this.text.indexOf(mark, at + 1);
    this.#partners.set(mark, at);
    return at;
  }

  /** @returns {number} where the next run of just `length` backticks is, or -1 */
  #nextFence(length, begin) {
    this.#fences ??= fencesFromTheEnd(this.text);
    const places = this.#fences.get(length) ?? [];
    while (places.at(-1) < begin) places.pop();
    return places.at(-1) ?? -1;
  }

  #add(node, end) {
    this.#flush();
    this.#nodes.push(node);
    this.#at = end;
    return true;
  }

  #flush() {
    if (this.#plain !== "") this.#nodes.push(document.createTextNode(this.#plain));
    this.#plain = "";
  }
}

/** @returns {Map<number, number[]>} length → where runs of so many backticks are, the last one first */
function fencesFromTheEnd(text) {
  const fences = new Map();
  for (const run of [...text.matchAll(/`+/g)].reverse()) {
    const length = run[0].length;
    if (!fences.has(length)) fences.set(length, []);
    fences.get(length).push(run.index);
  }
  return fences;
}

/** The sentence's, not the address's. */
function withoutPunctuation(url) {
  let end = url.length;
  while (NEVER_LAST.includes(url[end - 1])) end--;
  return url.slice(0, end);
}

function link(address, ...children) {
  return element("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, ...children);
}
