import type { Sql } from '../../db/index.ts';
import {
  type AgentId,
  type ClientId,
  type CredentialId,
  type EnvironmentId,
  isAgentId,
  isId,
} from '../../kernel/ids.ts';
import type { AgentPublicJwk } from '../credentials/credential.ts';

/** What the token endpoint knows of an agent, as a client. */
export interface Client {
  agentId: AgentId;
  clientId: ClientId;
  scopes: string[];
  status: 'active' | 'inactive' | 'suspended';
  homeEnvironmentId: EnvironmentId | null;
  expiresAt: Date | null;
  tokensValidFrom: Date | null;
  refreshWithoutClientAuth: boolean;
  /** Every token must be bound to one of its registered keys (RFC 9449). */
  senderBound: boolean;
  updatedAt: Date;
  secrets: ClientSecret[];
  keys: ClientKey[];
}

export interface ClientSecret {
  credentialId: CredentialId;
  hash: Buffer;
  expiresAt: Date | null;
}

export interface ClientKey {
  credentialId: CredentialId;
  jwk: AgentPublicJwk;
  /** RFC 7638. */
  thumbprint: string;
  expiresAt: Date | null;
}

const clientColumns = `id AS agent_id, client_id, scopes, status, home_environment_id, expires_at, tokens_valid_from,
  refresh_without_client_auth, sender_bound, updated_at`;

/** The client of this name, `cid_…` or the bare agent id, whatever its state, with the credentials that are good now. */
export async function findClient(sql: Sql, name: string, now: Date): Promise<Client | undefined> {
  if (!isAgentId(name) && !isId('client', name)) return undefined;
  const [client] = await sql.query<Omit<Client, 'keys' | 'secrets'>>(
    `SELECT ${clientColumns} FROM agents WHERE ${isAgentId(name) ? 'id' : 'client_id'} = $1 AND deleted_at IS NULL`,
    [name],
  );
  if (!client) return undefined;
  const rows = await sql.query<{
    credentialId: CredentialId;
    expiresAt: Date | null;
    secretHash: Buffer | null;
    publicJwk: AgentPublicJwk | null;
    thumbprint: string | null;
  }>(
    `SELECT id AS credential_id, expires_at, secret_hash, public_jwk, thumbprint FROM agent_credentials
     WHERE agent_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)`,
    [client.agentId, now],
  );
  return {
    ...client,
    secrets: rows.flatMap(({ credentialId, expiresAt, secretHash }) =>
      secretHash ? [{ credentialId, expiresAt, hash: secretHash }] : [],
    ),
    keys: rows.flatMap(({ credentialId, expiresAt, publicJwk, thumbprint }) =>
      publicJwk && thumbprint !== null ? [{ credentialId, expiresAt, jwk: publicJwk, thumbprint }] : [],
    ),
  };
}

/** Whether the credential is good now, and its agent live. */
export async function isCredentialGood(sql: Sql, id: CredentialId, now: Date): Promise<boolean> {
  const rows = await sql.query(
    `SELECT 1 AS one FROM agent_credentials c JOIN agents a ON a.id = c.agent_id
     WHERE c.id = $1 AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $2)
       AND a.status = 'active' AND (a.expires_at IS NULL OR a.expires_at > $2)`,
    [id, now],
  );
  return rows.length > 0;
}
