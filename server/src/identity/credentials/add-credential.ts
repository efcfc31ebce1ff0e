import { write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { touchAgent } from '../agents/agents.sql.ts';
import { lockOwnedAgent } from '../agents/owned-agent.ts';
import type { AgentPublicJwk, Credential } from './credential.ts';
import { findLiveCredentials, insertCredential } from './credentials.sql.ts';
import { newCredential, newSecretCredential } from './new-secret-credential.ts';
import { thumbprintOf } from './public-key.ts';
import { withSecret } from './shown-secret.ts';

/** Gives an agent another secret, whose text is in the result alone. Throws `conflict` where it has two that work. */
export async function addSecret(
  context: WriteContext,
  environmentId: EnvironmentId,
  agentId: AgentId,
): Promise<{ credential: Credential; secret: string | null }> {
  const secret = newSecretCredential();
  return write(context, async (sql, now) => {
    await lockOwnedAgent(sql, environmentId, agentId);
    const live = await findLiveCredentials(sql, agentId, now);
    if (live.filter(({ kind }) => kind === 'secret').length >= limits.agentSecretsMax) {
      throw new AppError(
        'conflict',
        'The agent has two secrets that work: revoke one, or rotate with {"action":"rotate"}',
      );
    }
    const credential = await secret.insert(sql, { agentId, createdBy: 'owner', now });
    await touchAgent(sql, agentId, now);
    return withSecret<{ credential: Credential; secret: string | null }>(
      { credential, secret: secret.text },
      auditOf(credential),
    );
  });
}

/** Gives an agent a public key to prove itself with. Throws `conflict` where it has this one, or too many. */
export async function addPublicKey(
  context: WriteContext,
  environmentId: EnvironmentId,
  agentId: AgentId,
  publicJwk: AgentPublicJwk,
): Promise<Credential> {
  const thumbprint = thumbprintOf(publicJwk);
  return write(context, async (sql, now) => {
    await lockOwnedAgent(sql, environmentId, agentId);
    const keys = (await findLiveCredentials(sql, agentId, now)).filter(({ kind }) => kind === 'public_key');
    if (keys.some((key) => key.thumbprint === thumbprint))
      throw new AppError('conflict', 'The agent has this public key already');
    if (keys.length >= limits.agentKeysMax)
      throw new AppError('conflict', `The agent has ${limits.agentKeysMax} public keys: revoke one first`);
    const credential: Credential = {
      ...newCredential({ agentId, createdBy: 'owner', now }),
      kind: 'public_key',
      publicJwk,
      thumbprint,
    };
    await insertCredential(sql, credential, null);
    await touchAgent(sql, agentId, now);
    return { result: credential, audit: auditOf(credential) };
  });
}

function auditOf({ id, agentId, kind, thumbprint }: Credential) {
  const data = { credential_id: id, kind, ...(thumbprint === null ? {} : { thumbprint }) };
  return { action: 'agent.credential_created', resource: agentId, data };
}
