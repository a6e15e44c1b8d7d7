// The test of a bridge, step by step.

import { problem } from "./load.svelte.ts";
import type { Finding } from "./types.ts";

export class BridgeTest {
  running = $state(false);
  findings = $state<Finding[]>([]);
  error = $state<string | null>(null);

  async run(test: (each: (finding: Finding) => void) => Promise<void>): Promise<void> {
    this.running = true;
    this.findings = [];
    this.error = null;
    try {
      await test((finding) => this.findings.push(finding));
    } catch (refusal) {
      this.error = problem(refusal);
    }
    this.running = false;
  }
}
