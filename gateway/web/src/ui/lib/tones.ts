// Which colour a state has.

import type { BridgeState, ClientState, Severity, WanState } from "./types.ts";

export type Tone = "plain" | "ok" | "warn" | "bad" | "urgent" | "accent";

export function ofClient(state: ClientState): Tone {
  if (state === "connected" || state === "awake") return "ok";
  return state.includes("asleep") ? "accent" : "plain";
}

export function ofBridge(state: BridgeState): Tone {
  switch (state) {
    case "connected":
      return "ok";
    case "connecting":
    case "idle":
      return "accent";
    case "paused":
      return "plain";
    case "stalled":
    case "waiting_for_time":
      return "warn";
    default:
      return "bad";
  }
}

export function ofWan(state: WanState): Tone {
  if (state === "works") return "ok";
  if (state === "fails") return "bad";
  return state === "recovers" ? "warn" : "plain";
}

export function ofSeverity(severity: Severity): Tone {
  return severity === "warning" ? "warn" : "bad";
}

export function ofLevel(level: string): Tone {
  if (level === "ERROR") return "bad";
  if (level === "WARN") return "warn";
  return level === "INFO" ? "accent" : "plain";
}

/** A month, a week, and the last day. */
export function ofDaysLeft(days: number): Tone {
  if (days <= 1) return "urgent";
  if (days <= 7) return "bad";
  return days <= 30 ? "warn" : "ok";
}
