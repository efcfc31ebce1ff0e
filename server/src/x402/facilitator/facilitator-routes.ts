import { type Static, Type } from 'typebox';
import { findEnvironment } from '../../accounts/index.ts';
import type { WriteContext } from '../../db/index.ts';
import { defineRoute, type PrincipalOf, type Route } from '../../http/index.ts';
import { assert } from '../../kernel/assert.ts';
import { AppError } from '../../kernel/errors.ts';
import {
  type FacilitatorDeps,
  type FacilitatorFault,
  type FacilitatorSettlement,
  settlePayment,
  type SettlingFor,
  verifyPayment,
} from './facilitator.ts';
import { FacilitatorBody, type FacilitatorRequest, readFacilitatorRequest } from './facilitator-wire.ts';
import { networks } from '../networks.ts';
import { isFacilitated } from '../payments/payment.ts';
import { findClaim, findListedPayment } from '../payments/payments.sql.ts';
import { PaymentView, presentPayment } from '../payments/payment-view.ts';
import { spellPayer } from '../payments/payment-routes.ts';
import { listActiveRelayers } from '../settlement/relayers.ts';
import { findNetworkIdV1, findNetworkNameV1 } from '../wire/wire-v1.ts';

/** VerifyResponse of specification v2, section 5.4, with the stock client's `invalidMessage`. */
const VerifyView = Type.Object({
  isValid: Type.Boolean(),
  invalidReason: Type.Optional(Type.String()),
  invalidMessage: Type.Optional(Type.String()),
  payer: Type.Optional(Type.String()),
});

/** SettlementResponse of specification v2, section 5.3, with the stock client's `errorMessage` and `extra`. */
const SettleView = Type.Object({
  success: Type.Boolean(),
  errorReason: Type.Optional(Type.String()),
  errorMessage: Type.Optional(Type.String()),
  transaction: Type.String({ description: 'Empty where none is known' }),
  network: Type.String(),
  payer: Type.Optional(Type.String()),
  amount: Type.Optional(Type.String()),
  extra: Type.Optional(
    Type.Object({
      payment_id: Type.String({ description: 'Names the payment in GET /v1/payments/:id' }),
    }),
  ),
});

const SupportedView = Type.Object({
  kinds: Type.Array(
    Type.Object({ x402Version: Type.Integer(), scheme: Type.String(), network: Type.String() }),
  ),
  extensions: Type.Array(Type.String()),
  signers: Type.Record(Type.String(), Type.Array(Type.String())),
});

const StatusQuery = Type.Object(
  {
    network: Type.String({ maxLength: 64, description: "CAIP-2, or version 1's name" }),
    payer: Type.String({ pattern: '^0x[0-9a-fA-F]{40}$' }),
    nonce: Type.String({ pattern: '^0x[0-9a-fA-F]{64}$' }),
  },
  { additionalProperties: false },
);

/** x402's facilitator interface for other people's APIs (specification v2, section 7), and the status that it lacks. */
export function facilitatorRoutes(deps: FacilitatorDeps): Route[] {
  return [...questionRoutes(deps), ...settlementRoutes(deps)];
}

function questionRoutes(deps: FacilitatorDeps): Route[] {
  return [
    defineRoute({
      id: 'facilitator.supported',
      summary: 'What the facilitator settles',
      method: 'GET',
      path: '/facilitator/supported',
      auth: [],
      scopes: [],
      limit: 'open',
      status: 200,
      schema: { response: SupportedView },
      errors: [],
      handler: async ({ context }) => describeSupported(deps, context),
    }),

    defineRoute({
      id: 'facilitator.verify',
      summary: 'Whether a payment could be settled for these terms now',
      method: 'POST',
      path: '/facilitator/verify',
      auth: [],
      scopes: [],
      limit: 'verification',
      status: 200,
      schema: { body: FacilitatorBody, response: VerifyView },
      errors: ['unavailable'],
      unknownKeys: 'ignored',
      handler: async ({ body }) => {
        const request = readFacilitatorRequest(body);
        if (!request) return invalid('invalid_x402_version');
        const fault = await verifyPayment(deps, request);
        const payer = request.sent.authorization.from;
        return fault === undefined ? { isValid: true, payer } : { ...invalid(fault), payer };
      },
    }),
  ];
}

function settlementRoutes(deps: FacilitatorDeps): Route[] {
  const settling = { auth: ['api_key'], scopes: ['facilitator:settle'], status: 200 } as const;
  return [
    defineRoute({
      ...settling,
      id: 'facilitator.settle',
      summary:
        'Settle a payment: one call succeeds, and again only with its Idempotency-Key; to any other call the payment is used',
      method: 'POST',
      path: '/facilitator/settle',
      limit: 'payment',
      schema: { body: FacilitatorBody, response: SettleView },
      errors: ['quota_exceeded', 'unavailable'],
      unknownKeys: 'ignored',
      handler: async ({ principal, body, context }) => {
        const request = readFacilitatorRequest(body);
        if (!request)
          return { success: false, errorReason: 'invalid_x402_version', transaction: '', network: '' };
        const settlingFor = await findSettlingFor(principal, context);
        if (!deps.chains.has(settlingFor.network.id))
          throw new AppError('unavailable', `This server has no connection to ${settlingFor.network.id}`);
        return present(request, await settlePayment(deps, context, settlingFor, request));
      },
    }),

    defineRoute({
      ...settling,
      id: 'facilitator.status',
      summary: 'What became of a payment that was settled here',
      method: 'GET',
      path: '/facilitator/status',
      limit: 'read',
      schema: { query: StatusQuery, response: PaymentView },
      errors: ['not_found'],
      handler: async ({ principal, query, context }) => {
        const { network } = await findSettlingFor(principal, context);
        const name = findNetworkIdV1(query.network) ?? query.network;
        const key = {
          asset: network.asset.address,
          payer: spellPayer(query.payer),
          nonce: query.nonce.toLowerCase(),
        };
        const claim = await findClaim(context.db, { network: name, ...key });
        const isTheirs =
          claim?.payment.environmentId === principal.environmentId && isFacilitated(claim.payment);
        const listed = isTheirs ? await findListedPayment(context.db, claim.payment) : undefined;
        if (!listed) throw new AppError('not_found', 'No such payment was settled for this environment');
        return presentPayment(listed, context.clock.now());
      },
    }),
  ];
}

/** An API key acts in its own environment, and that has one network. */
async function findSettlingFor(
  principal: PrincipalOf<'api_key'>,
  { db }: WriteContext,
): Promise<SettlingFor> {
  const { environmentId, apiKeyId } = principal;
  const environment = await findEnvironment(db, environmentId);
  assert(environment, 'an API key has an environment');
  return { environmentId, apiKeyId, network: networks[environment.kind] };
}

/** Both versions' kinds of each chain that this instance is connected to (specification v2, section 7.3). */
async function describeSupported(
  { chains }: FacilitatorDeps,
  { db }: WriteContext,
): Promise<Static<typeof SupportedView>> {
  const signers = await Promise.all([...chains.keys()].map((network) => listActiveRelayers(db, network)));
  return {
    kinds: [...chains.keys()].flatMap((network) => {
      const nameV1 = findNetworkNameV1(network);
      const v2 = { x402Version: 2, scheme: 'exact', network };
      return nameV1 === undefined ? [v2] : [v2, { x402Version: 1, scheme: 'exact', network: nameV1 }];
    }),
    extensions: [],
    signers: { 'eip155:*': [...new Set(signers.flat())] },
  };
}

function present(request: FacilitatorRequest, settlement: FacilitatorSettlement): Static<typeof SettleView> {
  const about = { network: request.networkName, payer: request.sent.authorization.from };
  if (settlement.kind === 'refused') {
    const { reason, message = messages[reason] } = settlement;
    return { success: false, errorReason: reason, errorMessage: message, transaction: '', ...about };
  }
  const extra = { payment_id: settlement.payment.id };
  switch (settlement.kind) {
    case 'settled':
      return {
        success: true,
        transaction: settlement.transaction,
        ...about,
        amount: settlement.payment.amount.toString(),
        extra,
      };
    case 'failed':
      return {
        success: false,
        errorReason: settlement.reason,
        errorMessage: 'The chain did not take it: nothing was charged',
        transaction: '',
        ...about,
        extra,
      };
    case 'pending':
      return {
        success: false,
        errorReason: 'settlement_pending',
        errorMessage:
          'It is on its way to the chain: settle the same payment again, or ask GET /facilitator/status, and do not fulfil before that',
        transaction: settlement.transaction,
        ...about,
        extra,
      };
  }
}

function invalid(reason: FacilitatorFault): Static<typeof VerifyView> {
  return { isValid: false, invalidReason: reason, invalidMessage: messages[reason] };
}

/** Each reason as a sentence, for whoever reads a log. */
const messages: Readonly<Record<FacilitatorFault, string>> = {
  insufficient_funds: "The payer's balance does not cover this beside its payments that are not settled yet",
  invalid_exact_evm_payload_authorization_valid_after: 'The authorisation is not valid yet',
  invalid_exact_evm_payload_authorization_valid_before:
    'The authorisation runs out too soon to be settled, or lasts for longer than an hour',
  invalid_exact_evm_payload_authorization_value_mismatch: 'The authorised value is not exactly the amount',
  invalid_exact_evm_payload_recipient_mismatch: 'The authorisation pays somebody else than payTo',
  invalid_exact_evm_payload_signature:
    'The payer did not sign this authorisation with its key; contract wallets are not supported',
  invalid_network: 'Payment and requirements must name one network, and one of GET /facilitator/supported',
  invalid_payment_requirements:
    "The asset must be the network's USDC with its own EIP-712 name and version, by EIP-3009, and the amount more than zero",
  invalid_transaction_state: 'The authorisation was used',
  invalid_x402_version: 'x402Version must be 1 or 2',
  payer_suspended: 'A payment of this payer failed after the work was done: it may pay again within the hour',
  unsupported_scheme: 'The scheme must be exact',
};
