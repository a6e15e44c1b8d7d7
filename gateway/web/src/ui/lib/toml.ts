// Texts of TOML, for settings that the UI writes.

/** A basic string, with everything escaped that must be. */
export function quoted(text: string): string {
  const escaped = text.replace(/["\\]/g, "\\$&").replace(/[\u0000-\u001f\u007f]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
  return `"${escaped}"`;
}

export function array(texts: string[]): string {
  return `[${texts.map(quoted).join(", ")}]`;
}
