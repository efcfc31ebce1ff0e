import type { AgentId, CredentialId } from '../../kernel/ids.ts';

/** The public half of an agent's key, with the members that RFC 7638 hashes and no others. */
export type AgentPublicJwk =
  | { kty: 'EC'; crv: 'P-256'; x: string; y: string }
  | { kty: 'OKP'; crv: 'Ed25519'; x: string }
  | { kty: 'RSA'; n: string; e: string };

/** What an agent proves itself with: a secret, of which only the hash is kept, or a public key. */
export interface Credential {
  id: CredentialId;
  agentId: AgentId;
  kind: 'public_key' | 'secret';
  publicJwk: AgentPublicJwk | null;
  /** RFC 7638, of a public key. */
  thumbprint: string | null;
  /** The first characters of a secret; unknown of those of 0.1. */
  displayPrefix: string | null;
  /** The secret that this one took the place of. */
  rotatedFrom: CredentialId | null;
  createdBy: 'agent' | 'owner';
  createdAt: Date;
  /** When the grace of a rotated secret ends. */
  expiresAt: Date | null;
  revokedAt: Date | null;
}

/** Whether it is good: a refresh family begun with it is dead once it isn't. */
export function isCredentialLive(
  credential: Pick<Credential, 'expiresAt' | 'revokedAt'>,
  now: Date,
): boolean {
  return credential.revokedAt === null && (credential.expiresAt === null || now < credential.expiresAt);
}
