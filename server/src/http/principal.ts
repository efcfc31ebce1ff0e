import type { Actor } from '../db/index.ts';
import type { AgentId, ApiKeyId, EnvironmentId, OrganisationId } from '../kernel/ids.ts';

/** What an API key may do on management routes. An agent's own scopes are another thing, and open none of them. */
export const apiScopes = [
  'audit:read',
  'mandates:read',
  'servers:read',
  'servers:write',
  'wallets:read',
  'wallets:write',
] as const;
export type ApiScope = (typeof apiScopes)[number];

/** Who a request acts as. The development principal is a person: the owner of the organisation in `dev.json`. */
export type Principal =
  | { kind: 'agent'; agentId: AgentId }
  | {
      kind: 'api_key';
      apiKeyId: ApiKeyId;
      organisationId: OrganisationId;
      environmentId: EnvironmentId;
      scopes: readonly string[];
    }
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
    case 'person':
      return { kind: 'development', id: 'development' };
  }
}
