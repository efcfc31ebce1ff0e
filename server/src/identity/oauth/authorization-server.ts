import type { Database, Origin } from '../../db/index.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { SecretBox } from '../../kernel/crypto.ts';
import type { DigestMemory } from '../../kernel/digest-memory.ts';
import type { AgentUsage } from '../agents/usage.ts';
import type { GuessGuard } from '../credentials/guess-guard.ts';
import type { Tokens } from '../tokens/tokens.ts';
import type { Clients } from './clients.ts';
import type { Dpop } from './dpop.ts';
import type { GrantLimit } from './grant-limit.ts';
import type { ProofRegister } from './proof-register.ts';
import type { Revocations } from './revocations.ts';
import type { TokenLane } from './token-lane.ts';

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
  usage: AgentUsage;
  guessGuard: GuessGuard;
  grantLimit: GrantLimit;
  /** API keys that were good: who shares an address with a guesser is looked up all the same. */
  knownApiKeys: DigestMemory;
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
