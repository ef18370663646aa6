/** Paragraphs, lists, tables, code: lines of Markdown as DOM nodes. Nothing is ever parsed as HTML. */

import { element } from "../dom.js";
import { CodeBlock } from "./code_block.js";
import { renderInline } from "./inline.js";
import {
  FENCE, HEADING, ITEM, QUOTE, RULE, indentOf, interruptsParagraph, isBlank, isTableRule,
} from "./patterns.js";

const MAX_DEPTH = 10;

/**
 * @param {string[]} lines without tabs in front
 * @param {number} [depth] of the quotes and lists around them
 * @returns {Node[]}
 */
export function renderBlocks(lines, depth = 0) {
  if (depth > MAX_DEPTH) return [element("p", { textContent: lines.join("\n") })];
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) at++;
    else {
      const [node, next] = readBlock(lines, at, depth);
      nodes.push(node);
      at = next;
    }
  }
  return nodes;
}

/** @returns {[Node, number]} the block at `at`, and the line behind it */
function readBlock(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return readCode(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const tag = `h${Math.min(heading[1].length + 1, 6)}`;
    return [element(tag, {}, ...renderInline(withoutClosing(heading[2]))), at + 1];
  }
  if (RULE.test(line)) return [element("hr"), at + 1];
  if (QUOTE.test(line)) return readQuote(lines, at, depth);
  if (ITEM.test(line)) return readList(lines, at, depth);
  if (line.includes("|") && at + 1 < lines.length && isTableRule(lines[at + 1])) return readTable(lines, at);
  return readParagraph(lines, at);
}

/** A heading's text without the #s that close it. */
function withoutClosing(heading) {
  const text = heading.trimEnd();
  let end = text.length;
  while (text[end - 1] === "#") end--;
  return /\s/.test(text[end - 1] ?? "") ? text.slice(0, end).trimEnd() : text;
}

function readCode(lines, at, fence) {
  const block = new CodeBlock(fence[2]);
  const indent = indentOf(lines[at]);
  let end = at + 1;
  for (; end < lines.length && !closesFence(lines[end], fence[1]); end++) {
    block.addLine(lines[end].slice(Math.min(indent, indentOf(lines[end]))));
  }
  return [block.node, end + 1];
}

/** @param {string} line @param {string} fence that opened the code @returns {boolean} */
export function closesFence(line, fence) {
  const text = line.trim();
  return text.length >= fence.length && text === fence[0].repeat(text.length) && indentOf(line) <= 3;
}

function readQuote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  const inside = lines.slice(at, end).map((line) => QUOTE.exec(line)[1]);
  return [element("blockquote", {}, ...renderBlocks(inside, depth + 1)), end];
}

function readList(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const isOrdered = /\d/.test(first[2]);
  const list = element(isOrdered ? "ol" : "ul", isOrdered ? { start: parseInt(first[2], 10) } : {});
  let end = at;
  while (end < lines.length && beginsItemOf(lines[end], first)) {
    const next = itemEnd(lines, end);
    list.append(renderItem(lines.slice(end, next), depth));
    end = next;
  }
  return [list, end];
}

/** Whether `line` begins an item of the list whose `first` item is as `ITEM` found it. */
function beginsItemOf(line, first) {
  const own = ITEM.exec(line);
  return own !== null && !RULE.test(line) && Math.abs(own[1].length - first[1].length) < 2
    && /\d/.test(own[2]) === /\d/.test(first[2]);
}

/** The line behind the item that begins at `at`: what is indented, or follows without a blank line, is the item's. */
function itemEnd(lines, at) {
  const indent = indentOf(lines[at]) + 2;
  let end = at + 1;
  for (; end < lines.length; end++) {
    const line = lines[end];
    if (isBlank(line) || indentOf(line) >= indent) continue;
    if (isBlank(lines[end - 1]) || ITEM.test(line) || interruptsParagraph(line)) break;
  }
  return end;
}

function renderItem(lines, depth) {
  const [, before, marker, text = ""] = ITEM.exec(lines[0]);
  const indent = before.length + marker.length + 1;
  const rest = lines.slice(1).map((line) => line.slice(Math.min(indent, indentOf(line))));
  const nodes = renderBlocks([text, ...rest], depth + 1);
  const first = nodes[0];
  const isTight = first instanceof HTMLParagraphElement;
  return element("li", {}, ...(isTight ? [...first.childNodes, ...nodes.slice(1)] : nodes));
}

function readTable(lines, at) {
  const sides = cells(lines[at + 1]).map((cell) => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return "left";
  });
  // A row that is shorter stays so: filled up, a few lines of text would make millions of cells.
  const row = (line, tag) => element("tr", {}, ...cells(line).slice(0, sides.length).map((text, i) =>
    element(tag, { className: sides[i] }, ...renderInline(text))));
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end++;
  const body = element("tbody", {}, ...lines.slice(at + 2, end).map((line) => row(line, "td")));
  const table = element("table", {}, element("thead", {}, row(lines[at], "th")), body);
  return [element("div", { className: "wide", tabIndex: 0, role: "group", ariaLabel: "Table" }, table), end];
}

function cells(line) {
  const inside = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inside.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function readParagraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]) && !interruptsParagraph(lines[end])) end++;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join("\n");
  return [element("p", {}, ...renderInline(text)), end];
}
