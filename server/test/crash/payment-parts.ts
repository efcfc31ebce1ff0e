import { type Address, toHex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import type { Database, WriteContext } from '../../src/db/index.ts';
import { addSeconds, unixSeconds } from '../../src/kernel/clock.ts';
import { createSecretBox } from '../../src/kernel/crypto.ts';
import { newId } from '../../src/kernel/ids.ts';
import { limits } from '../../src/kernel/limits.ts';
import {
  type Authorization,
  type Chain,
  createChain,
  createPaymentLane,
  exactFacts,
  type KnownBalance,
  networks,
  type Payment,
  type PaymentLane,
  type PaymentTarget,
  type Presenter,
  type ReceivedPayment,
  transferTypedData,
} from '../../src/x402/index.ts';

/** The points of a paid call at which a process is killed, in their order; the answer is stored before it is charged. */
export const points = ['claimed', 'responded', 'recorded', 'sent'] as const;
export type Point = (typeof points)[number];

export const price = 10_000n;
export const storedAnswer = {
  status: 200,
  headers: ['content-type', 'text/plain'],
  body: Buffer.from('paid for'),
};
export const presenter: Presenter = {
  agentId: 'agent',
  agentVerified: false,
  clientAddress: '127.0.0.1',
  termsSecret: null,
};
export const fingerprint = Buffer.alloc(32, 1);
export const relayerKey = `0x${'5e'.repeat(32)}` as const;
export const relayer = privateKeyToAccount(relayerKey).address;

/** What a process of the test brings to a point: whose payment it is, and for what. */
export interface Order {
  sent: ReceivedPayment;
  target: PaymentTarget;
}

export function openChain(rpcUrl: string, watched: { reorgDepth?: number } = {}): Chain {
  return createChain({ network: networks.sandbox, rpcUrl, finality: 'instant', ...watched });
}

/** What a process of the program writes with, its clock ahead by so much: past the lease of one that was killed. */
export function contextOf(db: Database, secondsAhead = 0): WriteContext {
  return {
    db,
    clock: { now: () => addSeconds(new Date(), secondsAhead) },
    box: createSecretBox(Buffer.alloc(32, 7)),
    actor: { kind: 'system', id: 'system' },
    scope: 'instance',
    requestId: null,
    clientAddress: null,
  };
}

/** A lane as the program has it, with its own limits on what is owed. */
export function openLane(context: WriteContext): PaymentLane {
  return createPaymentLane({ ...context, owedMax: limits.owedAtomic });
}

/** Claims an order's payment, as the gateway does for a call whose payer has this much. */
export async function claim(
  context: WriteContext,
  { sent, target }: Order,
  balance = plenty(),
): Promise<Payment> {
  const claimed = await openLane(context).claim(
    {
      facts: exactFacts(sent),
      presenter,
      fingerprint,
      target,
      mode: 'after_success',
      hosted: false,
      balance,
    },
    context,
  );
  if (claimed.kind !== 'claimed') throw new Error('the payment was claimed before');
  return claimed.payment;
}

/** Ends the attempt of a claimed payment with an answer. */
export async function storeAnswer(context: WriteContext, payment: Payment): Promise<void> {
  const end = { kind: 'responded', response: storedAnswer } as const;
  if (!(await openLane(context).end(payment, end, context)))
    throw new Error('the attempt was given up meanwhile');
}

/** A balance that any claim fits into: what is known may be wrong by the time that it is settled. */
function plenty(): KnownBalance {
  return { atomic: 10n ** 12n, readAt: new Date() };
}

/** What goes wrong and will be tried again, where somebody who looks for a failed test's reason finds it. */
export function report(error: unknown): void {
  process.stderr.write(`${String(error)}\n`);
}

/** A payment of the price, signed by a key that nobody used before unless one is given, to an address that nobody used before. */
export async function newOrder(
  payer = privateKeyToAccount(generatePrivateKey()),
  signed: Partial<Authorization> = {},
): Promise<Order & { payer: typeof payer; payee: Address }> {
  const payee = privateKeyToAccount(generatePrivateKey()).address;
  const network = networks.sandbox;
  const authorization = {
    from: payer.address,
    to: payee,
    value: price,
    validAfter: 0n,
    validBefore: BigInt(unixSeconds(new Date()) + 3_600),
    nonce: toHex(crypto.getRandomValues(new Uint8Array(32))),
    ...signed,
  };
  const signature = await payer.signTypedData(transferTypedData(network, authorization));
  const sent = {
    network: network.id,
    asset: network.asset.address,
    authorization,
    signature,
    termsSecret: null,
    resourceUrl: null,
  };
  const target = {
    environmentId: newId('environment'),
    serverId: newId('server'),
    endpointId: newId('endpoint'),
  };
  return { payer, payee, sent, target };
}
