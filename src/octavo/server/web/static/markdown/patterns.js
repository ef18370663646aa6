/** What a line of Markdown begins. Shared by the renderer of whole texts and the one of streams. */

export const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
export const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/s;
export const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
export const QUOTE = /^ {0,3}> ?(.*)$/s;
export const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +(.*)|)$/s;
const TABLE_RULE = /^\|?(?: *:?-+:? *\|)* *:?-+:? *\|?$/;

/** @param {string} line @returns {string} with tabs as four spaces, as far as they indent */
export function untabbed(line) {
  return line.replace(/^[ \t]+/, (indent) => indent.replaceAll("\t", "    "));
}

/** @param {string} line @returns {number} of spaces in front */
export function indentOf(line) {
  return line.length - line.trimStart().length;
}

/** @param {string} line @returns {boolean} */
export function isBlank(line) {
  return line.trim() === "";
}

/** @param {string} line @returns {boolean} whether it is the line under a table's head */
export function isTableRule(line) {
  const text = line.trim();
  return text.includes("|") && TABLE_RULE.test(text);
}

/** @param {string} line @returns {boolean} whether it ends a paragraph in front of it, as CommonMark has it */
export function interruptsParagraph(line) {
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  const item = ITEM.exec(line);
  return item !== null && item[3] !== undefined && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1);
}
