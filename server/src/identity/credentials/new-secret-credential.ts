import type { Sql } from '../../db/index.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { type AgentId, type CredentialId, newId } from '../../kernel/ids.ts';
import { displayPrefix, newClientSecret } from './client-secret.ts';
import type { Credential } from './credential.ts';
import { insertCredential } from './credentials.sql.ts';

/** A secret that is made but not yet kept: its text goes to its owner, only its hash into the row. */
export interface NewSecret {
  text: string;
  insert(
    sql: Sql,
    row: Pick<Credential, 'agentId' | 'createdBy'> & { rotatedFrom?: CredentialId; now: Date },
  ): Promise<Credential>;
}

/** Makes a secret outside of the transaction that keeps it, which may run several times. */
export function newSecretCredential(): NewSecret {
  const text = newClientSecret();
  return {
    text,
    async insert(sql, { agentId, createdBy, rotatedFrom, now }) {
      const credential = { ...newCredential({ agentId, createdBy, now }), rotatedFrom: rotatedFrom ?? null };
      const secret: Credential = { ...credential, kind: 'secret', displayPrefix: displayPrefix(text) };
      await insertCredential(sql, secret, sha256(text));
      return secret;
    },
  };
}

/** What every credential begins with. */
export function newCredential(given: {
  agentId: AgentId;
  createdBy: Credential['createdBy'];
  now: Date;
}): Omit<Credential, 'kind'> {
  return {
    id: newId('credential'),
    agentId: given.agentId,
    publicJwk: null,
    thumbprint: null,
    displayPrefix: null,
    rotatedFrom: null,
    createdBy: given.createdBy,
    createdAt: given.now,
    expiresAt: null,
    revokedAt: null,
  };
}
