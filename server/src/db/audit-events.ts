import { type EnvironmentId, newId } from '../kernel/ids.ts';
import type { JsonObject } from '../kernel/json.ts';
import type { Sql } from './database.ts';

/** Who a change is made by, as the audit log names them. */
export interface Actor {
  kind: 'agent' | 'anonymous' | 'api_key' | 'development' | 'system';
  id: string;
}

/** The environment that a row belongs to, or the instance where it belongs to none (an agent without a home). */
export type Scope = EnvironmentId | 'instance';

/** Whom and which request a change came from. */
export interface Origin {
  actor: Actor;
  requestId: string | null;
  clientAddress: string | null;
}

/** What happened, as a row of the audit log says it. */
export interface AuditEvent extends Origin {
  scope: Scope;
  /** `noun.verb`, such as `server.published`. */
  action: string;
  resource: string;
  data: JsonObject;
}

/** Writes events in their order, any number of them in one statement. Only `write()` and hot batches come here. */
export async function insertAuditEvents(sql: Sql, now: Date, events: readonly AuditEvent[]): Promise<void> {
  if (events.length === 0) return;
  const column = <T>(read: (event: AuditEvent) => T) => events.map(read);
  await sql.query(
    `INSERT INTO audit_events
       (environment_id, id, action, actor_kind, actor_id, resource, request_id, client_address, data, created_at)
     SELECT e.environment_id, e.id, e.action, e.actor_kind, e.actor_id, e.resource, e.request_id, e.client_address,
       e.data::jsonb, $10
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
       AS e (environment_id, id, action, actor_kind, actor_id, resource, request_id, client_address, data)`,
    [
      column((event) => event.scope),
      column(() => newId('audit_event')),
      column((event) => event.action),
      column((event) => event.actor.kind),
      column((event) => event.actor.id),
      column((event) => event.resource),
      column((event) => event.requestId),
      column((event) => event.clientAddress),
      column((event) => JSON.stringify(event.data)),
      now,
    ],
  );
}
