import type { PaymentPayload, PaymentRequirements } from '@x402/core/types';
import type { Address } from 'viem';
import { createApiKey, createOrganisation } from '../../src/accounts/index.ts';
import type { Database } from '../../src/db/index.ts';
import { apiScopes } from '../../src/http/index.ts';
import { testContext } from './database.ts';
import type { Instance } from './instance.ts';
import { network, type Payer } from './payer.ts';
import type { Answer } from './request.ts';
import { callApi } from './seller.ts';

/** What a facilitator is asked with. */
export interface FacilitatorBody {
  x402Version: number;
  paymentPayload: unknown;
  paymentRequirements: unknown;
}

/** Terms of somebody else's API: a cent, to be paid within a minute. */
export function foreignTerms(payTo: Address): PaymentRequirements {
  return {
    scheme: 'exact',
    network,
    amount: '10000',
    asset: '0x036CbD53842c5426634e7929541eC2318f3dCF7e',
    payTo,
    maxTimeoutSeconds: 60,
    extra: { name: 'USDC', version: '2' },
  };
}

/** What the stock client of a payer answers these terms with, as a seller passes it on. */
export async function orderOf(
  payer: Payer,
  terms: PaymentRequirements,
  resource = 'https://api.example.com/paid',
): Promise<FacilitatorBody & { paymentPayload: PaymentPayload; paymentRequirements: PaymentRequirements }> {
  const paymentPayload = await payer.pay({
    x402Version: 2,
    resource: { url: resource },
    accepts: [terms],
  });
  return { x402Version: 2, paymentPayload, paymentRequirements: terms };
}

export function verify(instance: Instance, body: unknown): Promise<Answer> {
  return callApi(instance, '/facilitator/verify', { body });
}

export function settle(
  instance: Instance,
  body: unknown,
  credential: string = instance.info.api_key,
  idempotencyKey?: string,
): Promise<Answer> {
  const headers = idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey };
  return callApi(instance, '/facilitator/settle', { body, credential, headers });
}

/** Another tenant's API key, with every scope unless said otherwise. */
export async function newTenantKey(
  db: Database,
  scopes: readonly (typeof apiScopes)[number][] = apiScopes,
): Promise<string> {
  const environment = await createOrganisation(testContext(db), 'Another tenant');
  const { key } = await createApiKey(testContext(db, { scope: environment.id }), {
    environment,
    name: 'Test',
    scopes,
  });
  return key;
}

/** How much is written of what a facilitator does: what may not change where nothing is to change. The instance's own work goes on meanwhile. */
export function countRows(db: Database): Promise<unknown[]> {
  return db.query(
    `SELECT (SELECT count(*) FROM payment_claims) AS claims, (SELECT count(*) FROM payments) AS payments,
       (SELECT count(*) FROM payers) AS payers, (SELECT count(*) FROM facilitator_usage) AS usages,
       (SELECT coalesce(sum(settlements), 0) FROM facilitator_usage) AS counted,
       (SELECT count(*) FROM settlement_transactions) AS transactions, (SELECT count(*) FROM audit_events WHERE actor_id <> 'system') AS events`,
  );
}
