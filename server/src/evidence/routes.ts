import { Type } from 'typebox';
import { defineRoute, type Route } from '../http/index.ts';
import { limits } from '../kernel/limits.ts';
import { listAuditEvents } from './audit-events.ts';

const Nullable = Type.Union([Type.String(), Type.Null()]);

const AuditPage = Type.Object({
  data: Type.Array(
    Type.Object({
      id: Type.String(),
      action: Type.String({ description: 'noun.verb, such as payment.settled' }),
      actor: Type.Object({ kind: Type.String(), id: Type.String() }),
      resource: Type.String(),
      request_id: Nullable,
      client_address: Nullable,
      data: Type.Record(Type.String(), Type.Unknown()),
      created_at: Type.String({ format: 'date-time' }),
    }),
  ),
  has_more: Type.Boolean(),
  next_cursor: Nullable,
});

const AuditQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: limits.pageSizeMax, default: limits.pageSizeDefault }),
    ),
    cursor: Type.Optional(Type.String({ maxLength: 100 })),
    action: Type.Optional(Type.String({ maxLength: 100 })),
    resource: Type.Optional(Type.String({ maxLength: 100 })),
  },
  { additionalProperties: false },
);

/** Reading of what happened. */
export function evidenceRoutes(): Route[] {
  return [
    defineRoute({
      id: 'audit.list',
      summary: 'What happened in the environment, newest first',
      method: 'GET',
      path: '/audit-logs',
      auth: ['api_key', 'person'],
      scopes: ['audit:read'],
      limit: 'read',
      status: 200,
      schema: { query: AuditQuery, response: AuditPage },
      errors: [],
      handler: async ({ principal, query, context }) => {
        const limit = query.limit ?? limits.pageSizeDefault;
        const rows = await listAuditEvents(context.db, {
          environmentId: principal.environmentId,
          before: query.cursor ?? null,
          limit: limit + 1,
          action: query.action ?? null,
          resource: query.resource ?? null,
        });
        const page = rows.slice(0, limit);
        const has_more = rows.length > limit;
        return {
          data: page.map((event) => ({
            id: event.id,
            action: event.action,
            actor: { kind: event.actorKind, id: event.actorId },
            resource: event.resource,
            request_id: event.requestId,
            client_address: event.clientAddress,
            data: event.data,
            created_at: event.createdAt.toISOString(),
          })),
          has_more,
          next_cursor: has_more ? (page.at(-1)?.id ?? null) : null,
        };
      },
    }),
  ];
}
