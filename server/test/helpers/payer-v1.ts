import { randomBytes } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Address, Hex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { fundAccount } from '../../src/embedded/index.ts';
import { type Authorization, type OnChain, transferOf } from './payer.ts';

/**
 * A client of x402 version 1, written out from its specification and as strict as its stock client (x402 1.2), which brings
 * 470 packages and is therefore not here. It parses every entry of `accepts` before it looks at any.
 */
export interface PayerV1 {
  address: Address;
  /** What it sends as `X-PAYMENT` for the first offer of a 402's body, changed before it is signed. */
  pay(body: unknown, change?: Partial<Authorization>): Promise<PaymentV1>;
}

export interface PaymentV1 {
  x402Version: 1;
  scheme: string;
  network: string;
  payload: { signature: Hex; authorization: Authorization };
}

/** The chains that x402 1.2 has a name for: an entry with any other fails it. */
const networks = [
  'abstract,abstract-testnet,base-sepolia,base,avalanche-fuji,avalanche,iotex,solana-devnet,solana,sei,sei-testnet,polygon',
  'polygon-amoy,peaq,story,educhain,skale-base-sepolia',
].flatMap((names) => names.split(','));

const AddressText = Type.String({ pattern: '^0x[0-9a-fA-F]{40}$' });

/** Optional members may be absent there, and not null; others may not be there at all. */
const Requirements = Type.Object(
  {
    scheme: Type.Literal('exact'),
    network: Type.Union(networks.map((name) => Type.Literal(name))),
    maxAmountRequired: Type.String({ pattern: '^[0-9]{1,18}$' }),
    resource: Type.String({ pattern: '^https?://[^/]+/' }),
    description: Type.String(),
    mimeType: Type.String(),
    outputSchema: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    payTo: AddressText,
    maxTimeoutSeconds: Type.Integer({ minimum: 1 }),
    asset: AddressText,
    extra: Type.Object({ name: Type.String(), version: Type.String() }, { additionalProperties: false }),
  },
  { additionalProperties: false },
);

/** Members beside these are passed over, as the stock client does. */
const Required = Type.Object({
  x402Version: Type.Literal(1),
  error: Type.String({ minLength: 1 }),
  accepts: Type.Array(Requirements, { minItems: 1 }),
});

/** Reads the body of a 402, or throws with the place that a client of version 1 would stumble over. */
export function parseRequiredV1(body: unknown): Static<typeof Required> {
  if (Value.Check(Required, body)) return body;
  throw new Error(`no 402 of version 1: ${JSON.stringify(Value.Errors(Required, body))}`);
}

/** A new payer with so much on the chain. */
export async function newFundedPayerV1(instance: OnChain, tokenAtomic: bigint): Promise<PayerV1> {
  const payer = newPayerV1();
  await fundAccount(instance.info.rpc_url, { address: payer.address, tokenAtomic });
  return payer;
}

export function newPayerV1(key: Hex = generatePrivateKey()): PayerV1 {
  const account = privateKeyToAccount(key);
  return {
    address: account.address,
    async pay(body, change = {}) {
      const [offer] = parseRequiredV1(body).accepts;
      if (!offer) throw new Error('nothing is offered');
      const now = Math.floor(Date.now() / 1000);
      const authorization: Authorization = {
        from: account.address,
        to: offer.payTo as Address,
        value: offer.maxAmountRequired,
        validAfter: String(now - 600),
        validBefore: String(now + offer.maxTimeoutSeconds),
        nonce: `0x${randomBytes(32).toString('hex')}`,
        ...change,
      };
      const signature = await account.signTypedData(transferOf(authorization));
      return {
        x402Version: 1,
        scheme: offer.scheme,
        network: offer.network,
        payload: { signature, authorization },
      };
    },
  };
}
