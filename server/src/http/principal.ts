import type { Actor } from '../db/index.ts';
import type { AgentId, ApiKeyId, EnvironmentId, OrganisationId } from '../kernel/ids.ts';

/** What an API key may do on management routes. An agent's own scopes are another thing, and open none of them. */
export const apiScopes = [
  'agents:read',
  'agents:write',
  'audit:read',
  'facilitator:settle',
  'mandates:read',
  'payments:read',
  'resources:read',
  'resources:write',
  'servers:read',
  'servers:write',
  'wallets:read',
  'wallets:write',
] as const;
export type ApiScope = (typeof apiScopes)[number];

/** Who a request acts as. The development principal is a person: the owner of the organisation in `dev.json`. */
export type Principal =
  | {
      kind: 'agent';
      agentId: AgentId;
      /** The access token that let the request in: its `jti`, and its `iat` in unix seconds. */
      token: { id: string; iat: number };
      /** Whether the token was given to somebody who acts for the agent (`act`, RFC 8693 section 4.1). */
      delegated: boolean;
      /** RFC 7638 thumbprint of the key whose possession this request has proved (RFC 9449); `null` for a bearer. */
      keyThumbprint: string | null;
    }
  | {
      kind: 'api_key';
      apiKeyId: ApiKeyId;
      organisationId: OrganisationId;
      environmentId: EnvironmentId;
      scopes: readonly string[];
    }
  /** Runs the instance: holds its key, or is the development principal. */
  | { kind: 'operator'; development: boolean }
  | { kind: 'person'; development: true; organisationId: OrganisationId; environmentId: EnvironmentId };

export type PrincipalKind = Principal['kind'];
export type PrincipalOf<Kind extends PrincipalKind> = Extract<Principal, { kind: Kind }>;

/** The principal as the audit log names it. */
export function actorOf(principal: Principal | null): Actor {
  if (principal === null) return { kind: 'anonymous', id: 'anonymous' };
  switch (principal.kind) {
    case 'agent':
      return { kind: 'agent', id: principal.agentId };
    case 'api_key':
      return { kind: 'api_key', id: principal.apiKeyId };
    case 'operator':
      if (!principal.development) return { kind: 'operator', id: 'operator' };
      return { kind: 'development', id: 'development' };
    case 'person':
      return { kind: 'development', id: 'development' };
  }
}
