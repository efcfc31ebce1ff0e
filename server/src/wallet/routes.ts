import { defineRoute, type Route } from '../http/index.ts';
import type { LinkId } from '../kernel/ids.ts';
import type { Chain } from '../x402/index.ts';
import { decodePaymentRequired } from '../x402/index.ts';
import { creditRoutes } from './credit-routes.ts';
import { mandateRoutes } from './mandate-routes.ts';
import { payX402, type WalletDeps } from './pay-x402.ts';
import { PayBody, SignedPaymentView, WalletList } from './schemas.ts';
import { findWallets } from './wallet.ts';

/** Wallets, their mandates and their payments. */
export function walletRoutes(
  deps: WalletDeps & {
    chains: ReadonlyMap<string, { chain: Chain }>;
    linkUrl(linkId: LinkId): string;
  },
): Route[] {
  return [
    ...mandateRoutes(deps),
    ...creditRoutes(),

    defineRoute({
      id: 'payment.sign_x402',
      summary: 'Pay what a 402 asks for, within a mandate',
      method: 'POST',
      path: '/v1/payments/x402',
      auth: ['agent'],
      scopes: [],
      limit: 'payment',
      status: 201,
      schema: { body: PayBody, response: SignedPaymentView },
      errors: [
        'not_found',
        'invalid_payment',
        'no_supported_payment_option',
        'mandate_not_signed',
        'mandate_expired',
        'payment_denied',
        'conflict',
        'unavailable',
      ],
      handler: async ({ principal, body, context }) => {
        const required = body.payment_required;
        const signed = await payX402(context, deps, {
          agent: principal,
          mandateId: body.mandate_id,
          required: typeof required === 'string' ? decodePaymentRequired(required) : required,
        });
        return {
          id: signed.payment.id,
          decision_id: signed.payment.decisionId,
          payment_header_name: signed.headerName,
          payment_header: signed.header,
          expires_at: signed.expiresAt.toISOString(),
        };
      },
    }),

    defineRoute({
      id: 'wallet.list',
      summary: "The environment's wallets, with their balances on chain",
      method: 'GET',
      path: '/v1/wallets',
      auth: ['api_key', 'person'],
      scopes: ['wallets:read'],
      limit: 'read',
      status: 200,
      schema: { response: WalletList },
      errors: ['unavailable'],
      handler: async ({ principal, context }) => {
        const wallets = await findWallets(context.db, principal.environmentId);
        const data = await Promise.all(
          wallets.map(async ({ id, network, address }) => {
            const balance = (await deps.chains.get(network)?.chain.balanceOf(address)) ?? 0n;
            return { id, network, address, balances: { USDC: balance.toString() } };
          }),
        );
        return { data, has_more: false, next_cursor: null };
      },
    }),
  ];
}
