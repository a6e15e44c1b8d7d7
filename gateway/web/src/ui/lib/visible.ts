// Names and payloads come from anybody: what does not show, or turns the text around it, is written out.

/** Control characters, marks of direction, what takes no room, and separators of lines that are none of ours. */
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\u{1bca0}|\u{1d173}|[\u{e0000}-\u{e0fff}]/gu;

function written(character: string): string {
  const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
  return `⟨U+${code}⟩`;
}

/** A name on one line: U+202E becomes `⟨U+202E⟩`. */
export function visible(text: string): string {
  return text.replace(HIDDEN, written);
}

/** A text of several lines: ends of lines and tabs stay. */
export function visibleLines(text: string): string {
  return text
    .replace(/\r\n/g, "\n")
    .replace(HIDDEN, (character) => (character === "\n" || character === "\t" ? character : written(character)));
}

/** The first characters of a text, no half of one, and whether there are more. */
export function cut(text: string, most: number): { shown: string; more: boolean } {
  if (text.length <= most) return { shown: text, more: false };
  const characters = [...text.slice(0, most + 1)].slice(0, most).join("");
  return { shown: characters.slice(0, most), more: true };
}
