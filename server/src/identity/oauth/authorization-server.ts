import type { Database, Origin } from '../../db/index.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { SecretBox } from '../../kernel/crypto.ts';
import type { Tokens } from '../tokens/tokens.ts';
import { type Clients, createClients } from './clients.ts';
import { createDpop, type Dpop } from './dpop.ts';
import { createProofRegister, type ProofRegister } from './proof-register.ts';
import type { Revocations } from './revocations.ts';
import { createTokenLane, type TokenLane } from './token-lane.ts';

/** What the OAuth endpoints stand on. */
export interface AuthorizationServer {
  db: Database;
  clock: Clock;
  box: SecretBox;
  /** The issuer, without a trailing slash; also the resource that tokens are for unless another is named. */
  issuer: string;
  tokens: Tokens;
  clients: Clients;
  lane: TokenLane;
  proofs: ProofRegister;
  dpop: Dpop;
  revocations: Revocations;
}

/** A request to an OAuth endpoint, as far as they look at it. */
export interface OAuthRequest {
  method: string;
  /** As it was sent, without the query. */
  path: string;
  authorization: string | undefined;
  dpop: string | undefined;
  origin: Origin;
  setHeader(name: string, value: string): void;
}

/** Wires it; `revocations` is opened before, as verifiers on other planes need it too. */
export function createAuthorizationServer(given: {
  db: Database;
  clock: Clock;
  box: SecretBox;
  tokens: Tokens;
  revocations: Revocations;
  dpopNonces: boolean;
}): AuthorizationServer {
  const clients = createClients(given);
  given.revocations.onAgentChanged((agentId) => clients.forget(agentId));
  const proofs = createProofRegister(given);
  return {
    ...given,
    issuer: given.tokens.issuer,
    clients,
    proofs,
    dpop: createDpop({ ...given, proofs, nonces: given.dpopNonces }),
    lane: createTokenLane(given),
  };
}
