import type { AgentId, DelegationId, EnvironmentId } from '../kernel/ids.ts';

/** What an agent may do for an environment. Empty `hostAllowlist`: any host. */
export interface Delegation {
  environmentId: EnvironmentId;
  id: DelegationId;
  agentId: AgentId;
  status: 'active' | 'revoked';
  description: string;
  category: string | null;
  hostAllowlist: readonly string[];
  validFrom: Date;
  validUntil: Date;
}

/** `per_transaction` bounds one payment; `lifetime` bounds what all of them have spent and hold. */
export interface Limit {
  kind: 'lifetime' | 'per_transaction';
  currency: string;
  amount: bigint;
  spent: bigint;
  held: bigint;
}

/** What is left of a limit for one more payment. */
export function headroom(limit: Limit): bigint {
  return limit.kind === 'lifetime' ? limit.amount - limit.spent - limit.held : limit.amount;
}

/** Whether a host is on the list: itself, or below a `*.` entry. Hosts compare in lower case, ports included where given. */
export function isHostAllowed(allowlist: readonly string[], url: URL): boolean {
  if (allowlist.length === 0) return true;
  return allowlist.some((entry) => {
    const allowed = entry.toLowerCase();
    if (allowed.startsWith('*.')) return url.hostname.endsWith(allowed.slice(1));
    return allowed === url.host || allowed === url.hostname;
  });
}
