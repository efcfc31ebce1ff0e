import { generateKeyPairSync } from 'node:crypto';
import { openTestDatabase, testContext } from '../../../test/helpers/database.ts';
import { createOrganisation, type Environment } from '../../accounts/index.ts';
import type { Database, WriteContext } from '../../db/index.ts';
import { unixSeconds } from '../../kernel/clock.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { findAgentBySecret } from '../credentials/credentials.sql.ts';
import { parsePublicKey } from '../credentials/public-key.ts';
import { insertLink } from '../links/agent-links.sql.ts';
import { createAgent } from './create-agent.ts';

export const start = new Date('2026-11-22T10:00:00Z');

/** Two organisations over a database, and what tests do with agents there. */
export async function openAgents() {
  const { db } = await openTestDatabase();
  const home = await createOrganisation(testContext(db), 'Home');
  const other = await createOrganisation(testContext(db), 'Other');
  /** A context at that time, on behalf of that environment. */
  const at = (now: Date, environment = home): WriteContext =>
    testContext(db, { clock: { now: () => now }, scope: environment.id });
  return {
    db,
    home,
    other,
    at,
    newAgent: (environment = home, now = start) =>
      createAgent(at(now, environment), environment.id, {
        description: '',
        metadata: {},
        name: 'A',
        scopes: [],
        selfRotation: true,
        tags: [],
        type: null,
        expiresInSeconds: null,
      }),
    link: (agentId: AgentId, environment: Environment) =>
      insertLink(db, { environmentId: environment.id, agentId, linkedBy: 'test', now: start }),
    works: (clientId: string, secret: string | null, now = start) => doesWork(db, clientId, secret, now),
  };
}

async function doesWork(db: Database, clientId: string, secret: string | null, now: Date): Promise<boolean> {
  return (
    secret !== null &&
    (await findAgentBySecret(db, { clientId, secretHash: sha256(secret), now })) !== undefined
  );
}

/** The code that it fails with, or `done`. */
export function codeOf(run: Promise<unknown>): Promise<string> {
  return run.then(
    () => 'done',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );
}

/** The agent by a bearer token of its own, of that time. */
export const self = (agentId: AgentId, issuedAt = start) => ({
  agentId,
  token: { id: crypto.randomUUID(), iat: unixSeconds(issuedAt) },
  delegated: false,
  keyThumbprint: null,
});

export const newKey = () =>
  parsePublicKey({ ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }) });
