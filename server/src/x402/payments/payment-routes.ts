import { type Static, Type } from 'typebox';
import { defineRoute, type Route } from '../../http/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { isId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { checksumAddress } from '../exact/checksum-address.ts';
import { PaymentView, presentPayment, PublicState, statesOf } from './payment-view.ts';
import { findListedPayment, listPayments } from './payments.sql.ts';

const PaymentList = Type.Object({
  data: Type.Array(PaymentView),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

const Instant = Type.String({ format: 'date-time' });
const PaymentQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: limits.pageSizeMax, default: limits.pageSizeDefault }),
    ),
    cursor: Type.Optional(Type.String({ maxLength: 100 })),
    state: Type.Optional(PublicState),
    server_id: Type.Optional(Type.String({ maxLength: 100 })),
    payer: Type.Optional(Type.String({ maxLength: 200, description: 'An address, in any spelling' })),
    created_from: Type.Optional(Instant),
    created_before: Type.Optional(Instant),
  },
  { additionalProperties: false },
);

const reading = {
  auth: ['api_key', 'person'],
  scopes: ['payments:read'],
  limit: 'read',
  status: 200,
} as const;

/** What an environment was paid, by the gateway's callers and through the facilitator. */
export function paymentRoutes(): Route[] {
  return [
    defineRoute({
      ...reading,
      id: 'payment.list',
      summary: "The environment's payments, newest first",
      method: 'GET',
      path: '/v1/payments',
      schema: { query: PaymentQuery, response: PaymentList },
      errors: [],
      handler: async ({ principal, query, context }) => {
        const limit = query.limit ?? limits.pageSizeDefault;
        const rows = await listPayments(context.db, {
          environmentId: principal.environmentId,
          ...filterOf(query),
          limit: limit + 1,
        });
        const page = rows.slice(0, limit);
        const has_more = rows.length > limit;
        const now = context.clock.now();
        return {
          data: page.map((listed) => presentPayment(listed, now)),
          has_more,
          next_cursor: has_more ? (page.at(-1)?.payment.id ?? null) : null,
        };
      },
    }),

    defineRoute({
      ...reading,
      id: 'payment.get',
      summary: 'A payment, and what to do next',
      method: 'GET',
      path: '/v1/payments/:id',
      schema: { params: Type.Object({ id: Type.String() }), response: PaymentView },
      errors: [],
      handler: async ({ principal, params, context }) => {
        const { environmentId } = principal;
        const listed = isId('payment', params.id)
          ? await findListedPayment(context.db, { environmentId, id: params.id })
          : undefined;
        if (!listed)
          throw new AppError(
            'not_found',
            'There is no such payment here; a payer without an account asks the gateway: GET /v1/payments/status',
          );
        return presentPayment(listed, context.clock.now());
      },
    }),
  ];
}

function filterOf(query: Static<typeof PaymentQuery>) {
  const { payer, created_from: from, created_before: before } = query;
  return {
    states: query.state === undefined ? [] : statesOf(query.state),
    serverId: query.server_id ?? null,
    payer: payer === undefined ? null : spellPayer(payer),
    createdFrom: readInstant(from),
    createdBefore: readInstant(before),
    before: query.cursor ?? null,
  };
}

function readInstant(text: string | undefined): Date | null {
  return text === undefined ? null : new Date(text);
}

/** An address has one spelling here; another kind of payer is what it says. */
export function spellPayer(payer: string): string {
  return /^0x[0-9a-fA-F]{40}$/.test(payer) ? checksumAddress(payer) : payer;
}
