// Rules in the text of a configuration: each `[[auth.acl]]` with its keys is one, and their order is the order in which they are asked. The rest of the text
// stays as somebody wrote it, comments too.

import { array, quoted } from "./toml.ts";

const RULE = /^\s*\[\[\s*auth\s*\.\s*acl\s*\]\]\s*(#.*)?$/;
const HEADER = /^\s*\[/;

/** What is left out matches all. */
export interface RuleFields {
  effect: "allow" | "deny";
  action: "all" | "publish" | "subscribe";
  user: string;
  client: string;
  address: string;
  topics: string[];
}

interface Block {
  start: number;
  /** The line behind its last one. */
  end: number;
}

/** What is valid while the configuration has no rule: a first one of its own takes its place, so it goes along. */
const DEFAULTS: string = [
  `[[auth.acl]]\neffect = "allow"\naddress = "127.0.0.0/8"\n`,
  `[[auth.acl]]\neffect = "allow"\naddress = "::1"\n`,
  `[[auth.acl]]\neffect = "allow"\nuser = "*"\ntopics = ["#"]\n`,
].join("\n");

function blocks(lines: string[]): Block[] {
  const found: Block[] = [];
  lines.forEach((line, at) => {
    const last = found.at(-1);
    if (RULE.test(line)) {
      if (last && last.end < 0) last.end = at;
      found.push({ start: at, end: -1 });
    } else if (HEADER.test(line) && last && last.end < 0) {
      last.end = at;
    }
  });
  if (found.at(-1)?.end === -1) found.at(-1)!.end = lines.length;
  return found;
}

/** How many rules the text has that can be changed here. */
export function countRules(text: string): number {
  return blocks(text.split("\n")).length;
}

export function ruleToml(rule: RuleFields): string {
  const lines = ["[[auth.acl]]", `effect = ${quoted(rule.effect)}`];
  if (rule.action !== "all") lines.push(`action = ${quoted(rule.action)}`);
  for (const key of ["user", "client", "address"] as const) if (rule[key]) lines.push(`${key} = ${quoted(rule[key])}`);
  if (rule.topics.length > 0) lines.push(`topics = ${array(rule.topics)}`);
  return `${lines.join("\n")}\n`;
}

/** Puts a rule in front of the one that has this place, or behind all. */
export function insertRule(text: string, rule: RuleFields, at: number): string {
  const lines = text.split("\n");
  const known = blocks(lines);
  const written = ruleToml(rule).split("\n");
  if (known.length === 0) return `${text.replace(/\n*$/, "\n\n")}${written.join("\n")}\n${DEFAULTS}`;
  const place = known[at]?.start ?? known.at(-1)!.end;
  const before = lines.slice(0, place);
  if (at >= known.length && before.at(-1)?.trim()) before.push("");
  return [...before, ...written, ...lines.slice(place)].join("\n");
}

export function removeRule(text: string, at: number): string {
  const lines = text.split("\n");
  const block = blocks(lines)[at];
  if (!block) return text;
  return [...lines.slice(0, block.start), ...lines.slice(block.end)].join("\n");
}

/** Changes places with the rule in front of it. */
export function raiseRule(text: string, at: number): string {
  const lines = text.split("\n");
  const known = blocks(lines);
  const [upper, lower] = [known[at - 1], known[at]];
  if (!upper || !lower) return text;
  const end = (block: Block) => {
    const own = lines.slice(block.start, block.end);
    return own.at(-1)?.trim() ? [...own, ""] : own;
  };
  return [
    ...lines.slice(0, upper.start),
    ...end(lower),
    ...lines.slice(upper.end, lower.start),
    ...end(upper),
    ...lines.slice(lower.end),
  ].join("\n");
}
