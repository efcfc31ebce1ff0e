import type { Sql } from '../../db/index.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { type AgentId, type CredentialId, newId } from '../../kernel/ids.ts';
import { displayPrefix, newClientSecret } from './client-secret.ts';
import type { Credential } from './credential.ts';
import { insertCredential } from './credentials.sql.ts';

/** A secret that is made but not yet kept: its text goes to its owner, only its hash into the row. */
export interface NewSecret {
  id: CredentialId;
  text: string;
  insert(sql: Sql, agentId: AgentId, now: Date): Promise<Credential>;
}

/** Makes a secret outside of the transaction that keeps it, which may run several times. */
export function newSecretCredential(given: {
  createdBy: Credential['createdBy'];
  rotatedFrom?: CredentialId | null;
}): NewSecret {
  const text = newClientSecret();
  const id = newId('credential');
  return {
    id,
    text,
    async insert(sql, agentId, now) {
      const credential: Credential = {
        id,
        agentId,
        kind: 'secret',
        publicJwk: null,
        thumbprint: null,
        displayPrefix: displayPrefix(text),
        rotatedFrom: given.rotatedFrom ?? null,
        createdBy: given.createdBy,
        createdAt: now,
        expiresAt: null,
        revokedAt: null,
      };
      await insertCredential(sql, credential, sha256(text));
      return credential;
    },
  };
}
