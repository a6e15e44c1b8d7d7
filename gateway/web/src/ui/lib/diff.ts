// What two texts differ in, line by line.

export interface DiffLine {
  kind: "same" | "added" | "removed" | "gap";
  text: string;
}

/** Lines that stay around a change. */
const CONTEXT = 3;
/** Beyond so many cells of the table, what is between the common ends counts as replaced whole. */
const MOST_CELLS = 4_000_000;

export function diff(before: string, after: string): DiffLine[] {
  const old = before.split("\n");
  const fresh = after.split("\n");
  let start = 0;
  while (start < old.length && start < fresh.length && old[start] === fresh[start]) start += 1;
  let end = 0;
  while (
    end < old.length - start &&
    end < fresh.length - start &&
    old[old.length - 1 - end] === fresh[fresh.length - 1 - end]
  ) {
    end += 1;
  }
  const same = (text: string): DiffLine => ({ kind: "same", text });
  const whole = [
    ...old.slice(0, start).map(same),
    ...middle(old.slice(start, old.length - end), fresh.slice(start, fresh.length - end)),
    ...old.slice(old.length - end).map(same),
  ];
  return shortened(whole);
}

/** By the longest common subsequence. */
function middle(old: string[], fresh: string[]): DiffLine[] {
  const out: DiffLine[] = [];
  const width = fresh.length + 1;
  if (old.length * width > MOST_CELLS) {
    out.push(...old.map((text): DiffLine => ({ kind: "removed", text })));
    out.push(...fresh.map((text): DiffLine => ({ kind: "added", text })));
    return out;
  }
  const longest = new Uint32Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = fresh.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        old[i] === fresh[j]
          ? longest[(i + 1) * width + j + 1]! + 1
          : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
    }
  }
  let i = 0;
  let j = 0;
  while (i < old.length || j < fresh.length) {
    if (i < old.length && j < fresh.length && old[i] === fresh[j]) {
      out.push({ kind: "same", text: old[i]! });
      i += 1;
      j += 1;
    } else if (
      j === fresh.length ||
      (i < old.length && longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!)
    ) {
      out.push({ kind: "removed", text: old[i]! });
      i += 1;
    } else {
      out.push({ kind: "added", text: fresh[j]! });
      j += 1;
    }
  }
  return out;
}

function shortened(lines: DiffLine[]): DiffLine[] {
  const near = lines.map(() => false);
  lines.forEach((line, at) => {
    if (line.kind === "same") return;
    for (let i = Math.max(0, at - CONTEXT); i <= Math.min(lines.length - 1, at + CONTEXT); i += 1) near[i] = true;
  });
  const out: DiffLine[] = [];
  lines.forEach((line, at) => {
    if (near[at]) out.push(line);
    else if (out.at(-1)?.kind !== "gap") out.push({ kind: "gap", text: "" });
  });
  return out.some((line) => line.kind !== "gap") ? out : [];
}
