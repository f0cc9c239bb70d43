"use strict";
// Which words of two texts are not in the other, in its order: the longest common subsequence.

// Words, single signs, and white space between them; letters of scripts without spaces are single.
const PIECES =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}]+|\s+|./gsu;
const MOST_CELLS = 1e6; // of the table below; longer texts are compared as bags of words

function piecesOf(text) {
  return text.match(PIECES) || [];
}

// For two lists of pieces, one list of booleans each: is this piece missing on the other side?
function differing(a, b) {
  const words = (pieces) => pieces.map((_, i) => i).filter((i) => pieces[i].trim());
  const [one, other] = [words(a), words(b)];
  const [inA, inB] = [a.map(() => false), b.map(() => false)];
  one.forEach((i) => (inA[i] = true));
  other.forEach((i) => (inB[i] = true));
  const same = (i, j) => a[one[i]] === b[other[j]];
  const pair = (i, j) => (inA[one[i]] = inB[other[j]] = false);
  let [start, endA, endB] = [0, one.length, other.length];
  while (start < endA && start < endB && same(start, start)) pair(start, start++);
  while (endA > start && endB > start && same(endA - 1, endB - 1)) pair(--endA, --endB);
  const [n, m] = [endA - start, endB - start];
  if (n * m > MOST_CELLS) {
    const bagA = new Set(one.slice(start, endA).map((i) => a[i]));
    const bagB = new Set(other.slice(start, endB).map((j) => b[j]));
    for (const i of one.slice(start, endA)) inA[i] = !bagB.has(a[i]);
    for (const j of other.slice(start, endB)) inB[j] = !bagA.has(b[j]);
    return [inA, inB];
  }
  const width = m + 1;
  const longest = new Uint32Array((n + 1) * width); // of what is left from i and j on
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      longest[i * width + j] = same(start + i, start + j)
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
  for (let i = 0, j = 0; i < n && j < m; )
    if (same(start + i, start + j)) pair(start + i++, start + j++);
    else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i++;
    else j++;
  return [inA, inB];
}

// A text as nodes; neighbours that differ are one mark, and so is the blank between them.
function marked(pieces, isMarked, name) {
  const nodes = document.createDocumentFragment();
  for (let i = 0; i < pieces.length; ) {
    const is = isMarked[i];
    let end = i + 1;
    while (end < pieces.length && isMarked[end] === is) end++;
    while (is && end + 1 < pieces.length && !pieces[end].trim() && isMarked[end + 1]) {
      end += 2;
      while (end < pieces.length && isMarked[end]) end++;
    }
    const text = pieces.slice(i, end).join("");
    if (is) nodes.append(made("mark", { className: name }, text));
    else nodes.append(text);
    i = end;
  }
  return nodes;
}

// An element with properties and children; a child that is a string is text, never HTML.
function made(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
