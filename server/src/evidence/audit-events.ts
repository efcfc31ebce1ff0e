import type { Sql } from '../db/index.ts';
import type { JsonObject } from '../kernel/json.ts';
import type { EnvironmentId } from '../kernel/ids.ts';

/** One line of the audit log. */
export interface AuditEvent {
  id: string;
  action: string;
  actorKind: string;
  actorId: string;
  resource: string;
  requestId: string | null;
  clientAddress: string | null;
  data: JsonObject;
  createdAt: Date;
}

/** An environment's events, newest first; `before` is the id that the last page ended with. */
export async function listAuditEvents(
  sql: Sql,
  args: {
    environmentId: EnvironmentId;
    before: string | null;
    limit: number;
    action: string | null;
    resource: string | null;
  },
): Promise<AuditEvent[]> {
  return sql.query<AuditEvent>(
    `SELECT id, action, actor_kind, actor_id, resource, request_id, client_address, data, created_at FROM audit_events
     WHERE environment_id = $1 AND ($2::text IS NULL OR id < $2) AND ($4::text IS NULL OR action = $4)
       AND ($5::text IS NULL OR resource = $5)
     ORDER BY id DESC LIMIT $3`,
    [args.environmentId, args.before, args.limit, args.action, args.resource],
  );
}
