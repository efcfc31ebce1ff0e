import { type EnvironmentId, newId } from '../kernel/ids.ts';
import type { JsonObject } from '../kernel/json.ts';
import type { Transaction } from './database.ts';

/** Who a change is made by, as the audit log names them. */
export interface Actor {
  kind: 'agent' | 'anonymous' | 'api_key' | 'development' | 'operator' | 'system';
  id: string;
}

/** The environment that a row belongs to, or the instance where it belongs to none (an agent without a home). */
export type Scope = EnvironmentId | 'instance';

export interface AuditEntry {
  /** `noun.verb`, such as `server.published`. */
  action: string;
  resource: string;
  /** Facts for whoever reads the log; never a secret. */
  data?: JsonObject;
  /** Where the row isn't in the context's scope, such as the environment that a signature linked. */
  scope?: Scope;
}

/** Whom and which request a change came from. */
export interface Origin {
  actor: Actor;
  requestId: string | null;
  clientAddress: string | null;
}

/** An audit event with all that its row says. */
export interface AuditEvent extends AuditEntry, Origin {
  scope: Scope;
}

export interface OutboxEntry {
  /** Names the consumer: one worker takes the row and deletes it with its own change. */
  topic: string;
  scope: Scope;
  payload: JsonObject;
}

export function insertAuditEvents(sql: Transaction, now: Date, events: readonly AuditEvent[]): void {
  if (events.length === 0) return;
  sql.send(`INSERT INTO audit_events (${auditColumns}) SELECT *, $10::timestamptz FROM ${unnestAudits(1)}`, [
    ...auditValues(events),
    now,
  ]);
}

export const auditColumns =
  'environment_id, id, action, actor_kind, actor_id, resource, request_id, client_address, data, created_at';

/** The events as rows, without their time; `first` is the number of the first of the nine parameters. */
function unnestAudits(first: number): string {
  const types = ['text', 'text', 'text', 'text', 'text', 'text', 'text', 'text', 'jsonb'];
  return `unnest(${types.map((type, index) => `$${first + index}::${type}[]`).join(', ')})`;
}

/** What `unnestAudits` takes. */
function auditValues(events: readonly AuditEvent[]): unknown[][] {
  return [
    events.map((event) => event.scope),
    events.map(() => newId('audit_event')),
    events.map((event) => event.action),
    events.map((event) => event.actor.kind),
    events.map((event) => event.actor.id),
    events.map((event) => event.resource),
    events.map((event) => event.requestId),
    events.map((event) => event.clientAddress),
    events.map((event) => JSON.stringify(event.data ?? {})),
  ];
}

export function insertOutboxEntries(sql: Transaction, now: Date, entries: readonly OutboxEntry[]): void {
  if (entries.length === 0) return;
  sql.send(
    `INSERT INTO outbox (environment_id, topic, payload, created_at)
     SELECT *, $4::timestamptz FROM unnest($1::text[], $2::text[], $3::jsonb[])`,
    [
      entries.map((entry) => entry.scope),
      entries.map((entry) => entry.topic),
      entries.map((entry) => JSON.stringify(entry.payload)),
      now,
    ],
  );
  // Delivered at commit; a worker that misses it finds the rows at its next poll.
  for (const topic of new Set(entries.map((entry) => entry.topic))) {
    sql.send("SELECT pg_notify('outbox', $1)", [topic]);
  }
}
