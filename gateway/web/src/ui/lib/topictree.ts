// Topics as a tree of their levels, each with the last value that was seen.

import type { TailMessage } from "./types.ts";

export interface TopicNode {
  /** The level's name; `""` is a level, too. */
  level: string;
  topic: string;
  children: Map<string, TopicNode>;
  /** What was seen last under this very topic. */
  last: Value | null;
  /** Messages that were seen under this topic and below. */
  seen: number;
}

export interface Value {
  payload: string | null;
  bytes: number;
  retain: boolean;
  at: number | null;
}

/** The tree is for looking at, not a store: beyond so many topics new ones are counted alone. */
export const MOST_TOPICS = 10_000;

export class TopicTree {
  readonly root: TopicNode = node("", "");
  topics = 0;
  leftOut = 0;

  add(topic: string, last: Value): void {
    if (this.topics >= MOST_TOPICS && !this.find(topic)?.last) {
      this.leftOut += 1;
      return;
    }
    let at = this.root;
    const path: string[] = [];
    for (const level of topic.split("/")) {
      path.push(level);
      let child = at.children.get(level);
      if (!child) {
        child = node(level, path.join("/"));
        at.children.set(level, child);
      }
      child.seen += 1;
      at = child;
    }
    if (!at.last) this.topics += 1;
    at.last = last;
  }

  find(topic: string): TopicNode | undefined {
    let at: TopicNode | undefined = this.root;
    for (const level of topic.split("/")) at = at?.children.get(level);
    return at;
  }
}

export function sorted(at: TopicNode): TopicNode[] {
  return [...at.children.values()].sort((a, b) => (a.level < b.level ? -1 : a.level > b.level ? 1 : 0));
}

export function valueOf(message: TailMessage): Value {
  return { payload: message.payload, bytes: message.bytes, retain: message.retain, at: message.at };
}

function node(level: string, topic: string): TopicNode {
  return { level, topic, children: new Map(), last: null, seen: 0 };
}
