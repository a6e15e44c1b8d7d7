// What a certificate is to the gateway.

import type { Certificate } from "./types.ts";

/** By which the local CA is kept. */
export const CA = "ca";

export type Kind = "ca" | "issued" | "other";

export function kindOf(certificate: Certificate, all: Certificate[]): Kind {
  if (certificate.name === CA) return "ca";
  const ca = all.find(({ name }) => name === CA)?.subject;
  return ca && certificate.issuer === ca ? "issued" : "other";
}

/** The last certificate of a chain: that of the CA. */
export function lastOf(chain: string): string {
  return chain.slice(Math.max(0, chain.lastIndexOf("-----BEGIN")));
}

/** Names and addresses as they are typed. */
export function namesOf(text: string): string[] {
  return text.split(/[\s,]+/).filter(Boolean);
}
