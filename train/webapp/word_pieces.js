"use strict";
// Texts as ids: BERT's uncased word pieces (Devlin et al. 2019), as MiniLM was trained to read.

const MARKS = /(\[PAD\]|\[UNK\]|\[CLS\]|\[SEP\]|\[MASK\])/; // are pieces where somebody writes them
const CONTROL = /[\p{C}\ufffd]/u;
const PUNCTUATION = /[\p{P}$+<=>^`|~]/gu;
const CHINESE = new RegExp("[\\u4e00-\\u9fff\\u3400-\\u4dbf\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b81f}\\u{2b920}-\\u{2ceaf}"
  + "\\uf900-\\ufaff\\u{2f800}-\\u{2fa1f}]", "gu"); // signs that are words of their own
const LONGEST = 100; // letters of a word, beyond which it is unknown

class WordPieces {
  /** pieces: the lines of vocab.txt; maxTokens: of a text, marks of start and end included. */
  constructor(pieces, maxTokens) {
    this.ids = new Map(pieces.map((piece, id) => [piece, id]));
    this.maxTokens = maxTokens;
  }

  /** Ids of a text, with the marks of start and end. */
  encode(text) {
    const ids = text.split(MARKS).flatMap((part) => MARKS.test(part) ? [this.ids.get(part)] : this.plain(part));
    return [this.ids.get("[CLS]"), ...ids.slice(0, this.maxTokens - 2), this.ids.get("[SEP]")];
  }

  plain(text) {
    const letters = [...text].filter((letter) => /[\t\n\r]/.test(letter) || !CONTROL.test(letter)).join("");
    const bare = letters.replace(CHINESE, " $& ").normalize("NFD").replace(/\p{Mn}/gu, "");
    const lower = [...bare].map((letter) => letter.toLowerCase()).join(""); // letter by letter: no final sigma
    const words = lower.replace(PUNCTUATION, " $& ").split(/\p{White_Space}+/u).filter(Boolean);
    return words.flatMap((word) => this.word([...word]));
  }

  /** The longest piece that is known, then the longest of what is left. */
  word(letters) {
    const found = [];
    for (let start = 0; start < letters.length; ) {
      let end = letters.length, id;
      const piece = () => (start ? "##" : "") + letters.slice(start, end).join("");
      while (end > start && (id = this.ids.get(piece())) === undefined) end--;
      if (id === undefined || letters.length > LONGEST) return [this.ids.get("[UNK]")];
      found.push(id);
      start = end;
    }
    return found;
  }
}
