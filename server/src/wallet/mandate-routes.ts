import type { Static } from 'typebox';
import { findLimits, type Limit } from '../authority/index.ts';
import type { Sql } from '../db/index.ts';
import { defineRoute, type Principal, type Route } from '../http/index.ts';
import { demandLink, findOpenEnvironments } from '../identity/index.ts';
import { AppError } from '../kernel/errors.ts';
import type { LinkId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import { parseAtomicAmount } from '../kernel/money.ts';
import { type MandateRequest, mandateStatus } from './mandate.ts';
import { findMandateRequest, listMandateRequests } from './mandates.sql.ts';
import { requestMandate } from './request-mandate.ts';
import {
  CreatedIntent,
  CreateIntentBody,
  MandateList,
  MandateParams,
  MandateView,
  NoFields,
  PageQuery,
} from './schemas.ts';
import { signMandate } from './sign-mandate.ts';

/** Asking for a mandate, reading it, and signing it. */
export function mandateRoutes(deps: {
  authorizationUrl(mandateId: string): string;
  /** Where a person links an agent. */
  linkUrl(linkId: LinkId): string;
}): Route[] {
  return [
    defineRoute({
      id: 'mandate.list',
      summary: "An agent's mandates, or those that the environment has signed; newest first",
      method: 'GET',
      path: '/v1/mandates',
      auth: ['agent', 'api_key', 'person'],
      scopes: ['mandates:read'],
      limit: 'read',
      status: 200,
      schema: { query: PageQuery, response: MandateList },
      errors: ['agent_not_linked'],
      handler: async ({ principal, query, context }) => {
        const owner =
          principal.kind === 'agent'
            ? {
                agentId: principal.agentId,
                openEnvironments: await demandLink(context, principal, deps.linkUrl),
              }
            : { environmentId: principal.environmentId };
        const limit = query.limit ?? limits.pageSizeDefault;
        const page = { before: query.cursor ?? null, limit: limit + 1 };
        const rows = await listMandateRequests(context.db, owner, page);
        const shown = rows.slice(0, limit);
        const has_more = rows.length > limit;
        const now = context.clock.now();
        return {
          data: await Promise.all(shown.map((mandate) => presentMandate(context.db, mandate, now))),
          has_more,
          next_cursor: has_more ? (shown.at(-1)?.id ?? null) : null,
        };
      },
    }),

    defineRoute({
      id: 'mandate.create_intent',
      summary: 'Ask a person for a budget',
      method: 'POST',
      path: '/v1/mandates/create-intent',
      auth: ['agent'],
      scopes: [],
      limit: 'write',
      status: 201,
      schema: { body: CreateIntentBody, response: CreatedIntent },
      errors: [],
      handler: async ({ principal, body, context }) => {
        const mandate = await requestMandate(context, principal, readIntent(body.intent));
        const open = await findOpenEnvironments(context.db, principal.agentId);
        return {
          id: mandate.id,
          mandateId: mandate.id,
          status: mandateStatus(mandate, null, context.clock.now()),
          authorizationUrl: deps.authorizationUrl(mandate.id),
          expiresAt: mandate.expiresAt.toISOString(),
          agentStatus: open.length > 0 ? ('ready' as const) : ('needs_wallet_authorization' as const),
        };
      },
    }),

    defineRoute({
      id: 'mandate.get',
      summary: 'A mandate, with what is spent and held',
      method: 'GET',
      path: '/v1/mandates/:mandateId',
      auth: ['agent', 'api_key', 'person'],
      scopes: ['mandates:read'],
      limit: 'read',
      status: 200,
      schema: { params: MandateParams, response: MandateView },
      errors: [],
      handler: async ({ principal, params, context }) => {
        const mandate = await findMandateRequest(context.db, params.mandateId);
        if (!mandate || !maySee(principal, mandate))
          throw new AppError('not_found', 'There is no such mandate');
        if (principal.kind === 'agent') await demandOpen(context.db, mandate);
        return presentMandate(context.db, mandate, context.clock.now());
      },
    }),

    defineRoute({
      id: 'mandate.sign',
      summary: 'Agree to a mandate: link the agent and give it the budget',
      method: 'POST',
      path: '/v1/mandates/:mandateId/sign',
      auth: ['person'],
      scopes: [],
      limit: 'write',
      status: 200,
      schema: { params: MandateParams, body: NoFields, response: MandateView },
      errors: ['mandate_expired', 'conflict'],
      handler: async ({ principal, params, context }) => {
        const mandate = await signMandate(context, params.mandateId, principal.environmentId);
        return presentMandate(context.db, mandate, context.clock.now());
      },
    }),
  ];
}

function readIntent(intent: Static<typeof CreateIntentBody>['intent']) {
  const limitAmount = parseAtomicAmount(intent.limitAmount, 'intent.limitAmount');
  const perTx = intent.maxAmountPerTx;
  return {
    naturalLanguage: intent.naturalLanguage,
    limitAmount,
    maxAmountPerTx: perTx === undefined ? null : parseAtomicAmount(perTx, 'intent.maxAmountPerTx'),
    validForSeconds: intent.validForSeconds,
    currency: intent.currency ?? 'USDC',
    category: intent.category ?? null,
    hostAllowlist: intent.hostAllowlist ?? [],
  };
}

/** Its agent; and, as it names nobody's environment before it is signed, any person who was given its address. */
function maySee(principal: Exclude<Principal, { kind: 'operator' }>, mandate: MandateRequest): boolean {
  if (principal.kind === 'agent') return mandate.agentId === principal.agentId;
  if (mandate.environmentId === null) return principal.kind === 'person';
  return mandate.environmentId === principal.environmentId;
}

/** What an environment has signed is no business of an agent that it has stopped. Throws `forbidden`. */
async function demandOpen(sql: Sql, { agentId, environmentId }: MandateRequest): Promise<void> {
  if (environmentId === null) return;
  const open = await findOpenEnvironments(sql, agentId);
  if (!open.includes(environmentId))
    throw new AppError(
      'forbidden',
      'Whoever signed this mandate has stopped the agent, and may start it again',
    );
}

async function presentMandate(
  sql: Sql,
  mandate: MandateRequest,
  now: Date,
): Promise<Static<typeof MandateView>> {
  const { environmentId, id } = mandate;
  const budget = environmentId === null ? [] : await findLimits(sql, { environmentId, id });
  const lifetime = budget.find((limit) => limit.kind === 'lifetime');
  const remaining = lifetime ? remainingOf(lifetime) : mandate.limitAmount;
  return {
    id,
    mandateId: id,
    agentId: mandate.agentId,
    status: mandateStatus(mandate, remaining, now),
    naturalLanguage: mandate.naturalLanguage,
    category: mandate.category,
    currency: mandate.currency,
    limitAmount: mandate.limitAmount.toString(),
    maxAmountPerTx: mandate.maxAmountPerTx?.toString() ?? null,
    spentAmount: (lifetime?.spent ?? 0n).toString(),
    pendingSpentAmount: (lifetime?.held ?? 0n).toString(),
    remainingAmount: remaining.toString(),
    hostAllowlist: mandate.hostAllowlist,
    validForSeconds: mandate.validForSeconds,
    signedAt: mandate.signedAt?.toISOString() ?? null,
    createdAt: mandate.createdAt.toISOString(),
    expiresAt: mandate.expiresAt.toISOString(),
  };
}

function remainingOf(limit: Limit): bigint {
  return limit.amount - limit.spent - limit.held;
}
