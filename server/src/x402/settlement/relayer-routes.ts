import { Type } from 'typebox';
import type { Hex } from 'viem';
import { defineRoute, type Route } from '../../http/index.ts';
import type { Chain } from '../chain/chain.ts';
import { addRelayer, type FundedRelayer, listFunded, setRelayerActive } from './operate-relayers.ts';

const Network = Type.String({ minLength: 1, maxLength: 40, description: 'CAIP-2, such as eip155:84532' });

const RelayerView = Type.Object({
  network: Type.String(),
  address: Type.String(),
  active: Type.Boolean({ description: 'Whether it signs new transactions' }),
  configured: Type.Boolean({ description: "Whether the instance's settings name it" }),
  native_balance: Type.Union([Type.String(), Type.Null()], {
    description: 'In wei; null where the chain does not answer',
  }),
  balance_low: Type.Boolean({ description: 'Whether it will soon be out of gas' }),
  next_nonce: Type.Integer(),
  unmined_transactions: Type.Integer(),
  created_at: Type.String({ format: 'date-time' }),
  used_at: Type.Union([Type.String({ format: 'date-time' }), Type.Null()]),
});
const RelayerList = Type.Object({ data: Type.Array(RelayerView) });

const AddRelayerBody = Type.Object(
  {
    network: Network,
    private_key: Type.Optional(
      Type.String({
        pattern: '^0x[0-9a-fA-F]{64}$',
        description: 'Of an account that has gas; made here if absent. It is never shown again',
      }),
    ),
  },
  { additionalProperties: false },
);
const SwitchBody = Type.Object(
  { network: Type.Optional(Network) },
  { additionalProperties: false, description: 'Every chain that it is on, unless one is named' },
);
const AddressParams = Type.Object({ address: Type.String({ maxLength: 100 }) });

/** The operator's view of the accounts that pay the gas. */
export function relayerRoutes({ chains }: { chains: ReadonlyMap<string, { chain: Chain }> }): Route[] {
  return [
    defineRoute({
      id: 'relayer.list',
      summary: 'The accounts that pay the gas of settlements, with what they have left',
      method: 'GET',
      path: '/v1/relayers',
      auth: ['operator'],
      scopes: [],
      limit: 'read',
      status: 200,
      schema: { response: RelayerList },
      errors: [],
      handler: async ({ context }) => ({ data: (await listFunded(context.db, chains)).map(view) }),
    }),

    defineRoute({
      id: 'relayer.add',
      summary: 'Add an account that pays the gas on a chain',
      method: 'POST',
      path: '/v1/relayers',
      auth: ['operator'],
      scopes: [],
      limit: 'write',
      status: 201,
      schema: { body: AddRelayerBody, response: RelayerView },
      errors: ['conflict'],
      handler: async ({ body, context }) => {
        const privateKey = body.private_key as Hex | undefined;
        return view(await addRelayer(context, chains, { network: body.network, privateKey }));
      },
    }),

    ...(['deactivate', 'reactivate'] as const).map((verb) =>
      defineRoute({
        id: `relayer.${verb}`,
        summary:
          verb === 'deactivate'
            ? 'Let a relayer sign nothing new; what it has signed is still watched'
            : 'Let a relayer sign again',
        method: 'POST',
        path: `/v1/relayers/:address/${verb}`,
        auth: ['operator'],
        scopes: [],
        limit: 'write',
        status: 200,
        schema: { params: AddressParams, body: SwitchBody, response: RelayerList },
        errors: [],
        handler: async ({ params, body, context }) => {
          const { address } = params;
          const active = verb === 'reactivate';
          const relayers = await setRelayerActive(context, chains, {
            address,
            network: body.network,
            active,
          });
          return { data: relayers.map(view) };
        },
      }),
    ),
  ];
}

function view(relayer: FundedRelayer) {
  return {
    network: relayer.network,
    address: relayer.address,
    active: relayer.active,
    configured: relayer.configured,
    native_balance: relayer.balance?.toString() ?? null,
    balance_low: relayer.low,
    next_nonce: Number(relayer.nextNonce),
    unmined_transactions: relayer.unmined,
    created_at: relayer.createdAt.toISOString(),
    used_at: relayer.usedAt?.toISOString() ?? null,
  };
}
