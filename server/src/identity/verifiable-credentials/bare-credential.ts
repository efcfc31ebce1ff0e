import { assert } from '../../kernel/assert.ts';

const claimsWithChallenge = ['challenge', 'nonce'] as const;

/** A signed credential without its challenge: what may be kept of it. With the same challenge it is the same text again. */
export function withoutChallenge(vc: string): string {
  return mapClaims(vc, '');
}

/** The credential that `withoutChallenge` was given, from whoever knows the challenge. */
export function withChallenge(bare: string, challenge: string): string {
  return mapClaims(bare, challenge);
}

/** JSON keeps the order of what is replaced in its place, so that the signed bytes come out alike. */
function mapClaims(vc: string, challenge: string): string {
  const [header, payload, signature] = vc.split('.');
  assert(payload !== undefined, 'what we signed has a payload');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>;
  for (const name of claimsWithChallenge) claims[name] = challenge;
  return [header, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.');
}
