import { Type } from 'typebox';
import { findEnvironment } from '../accounts/index.ts';
import { defineRoute, type Route } from '../http/index.ts';
import { assert } from '../kernel/assert.ts';
import { AppError } from '../kernel/errors.ts';
import { parseAtomicAmount } from '../kernel/money.ts';
import { type CreditKeyRow, listCreditKeys } from './credit-keys.sql.ts';
import { type Credits, findCredits, issueCredits } from './issue-credits.ts';
import { registerCreditKey, revokeCreditKey } from './register-credit-key.ts';
import {
  CreditKeyBody,
  CreditKeyList,
  CreditKeyParams,
  CreditKeyView,
  CreditsView,
  IssueBody,
} from './schemas.ts';

/** An environment's credits, and the keys that may pay with them. */
export function creditRoutes(): Route[] {
  return [
    defineRoute({
      id: 'credits.read',
      summary: "The environment's prepaid credits",
      method: 'GET',
      path: '/v1/wallet/credits',
      auth: ['api_key', 'person'],
      scopes: ['wallets:read'],
      limit: 'read',
      status: 200,
      schema: { response: CreditsView },
      errors: [],
      handler: async ({ principal, context }) => {
        const environment = await findEnvironment(context.db, principal.environmentId);
        assert(environment, 'a principal acts in an environment that exists');
        return creditsView(await findCredits(context.db, environment));
      },
    }),

    defineRoute({
      id: 'credits.issue',
      summary: 'Give credits to an environment: a debt of the instance',
      method: 'POST',
      path: '/v1/credits/issue',
      auth: ['operator'],
      scopes: [],
      limit: 'write',
      status: 201,
      schema: { body: IssueBody, response: CreditsView },
      errors: ['not_found'],
      handler: async ({ body, context }) => {
        const environment = await findEnvironment(context.db, body.environment_id);
        if (!environment) throw new AppError('not_found', 'There is no such environment');
        // A repeated request is known by its Idempotency-Key.
        const key = `operator/${crypto.randomUUID()}`;
        await issueCredits(context, environment, {
          amount: parseAtomicAmount(body.amount, 'amount'),
          key,
          reason: body.reason,
        });
        return creditsView(await findCredits(context.db, environment));
      },
    }),

    defineRoute({
      id: 'credit_key.list',
      summary: "The keys that pay, or paid, with the environment's credits",
      method: 'GET',
      path: '/v1/wallet/credit-keys',
      auth: ['api_key', 'person'],
      scopes: ['wallets:read'],
      limit: 'read',
      status: 200,
      schema: { response: CreditKeyList },
      errors: [],
      handler: async ({ principal, context }) => {
        const keys = await listCreditKeys(context.db, principal.environmentId);
        return { data: keys.map(viewOf), has_more: false, next_cursor: null };
      },
    }),

    defineRoute({
      id: 'credit_key.register',
      summary: "Let a key pay with the environment's credits",
      method: 'POST',
      path: '/v1/wallet/credit-keys',
      auth: ['api_key', 'person'],
      scopes: ['wallets:write'],
      limit: 'write',
      status: 201,
      schema: { body: CreditKeyBody, response: CreditKeyView },
      errors: ['conflict'],
      handler: async ({ principal, body, context }) =>
        viewOf(
          await registerCreditKey(context, principal.environmentId, { jwk: body.jwk, name: body.name ?? '' }),
        ),
    }),

    defineRoute({
      id: 'credit_key.revoke',
      summary: 'Let a key pay no more; calls that it has paid for go on',
      method: 'DELETE',
      path: '/v1/wallet/credit-keys/:kid',
      auth: ['api_key', 'person'],
      scopes: ['wallets:write'],
      limit: 'write',
      status: 204,
      schema: { params: CreditKeyParams, response: Type.Null() },
      errors: ['not_found'],
      handler: async ({ principal, params, context }) => {
        await revokeCreditKey(context, principal.environmentId, params.kid);
        return null;
      },
    }),
  ];
}

function creditsView({ currency, balance, held }: Credits) {
  return {
    currency,
    balance: balance.toString(),
    held: held.toString(),
    available: (balance - held).toString(),
  };
}

function viewOf(key: CreditKeyRow) {
  return {
    id: key.kid,
    kid: key.kid,
    name: key.name,
    algorithm: key.algorithm,
    public_jwk: key.publicJwk,
    created_at: key.createdAt.toISOString(),
    revoked_at: key.revokedAt?.toISOString() ?? null,
  };
}
