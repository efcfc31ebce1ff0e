import { x402Client, x402HTTPClient } from '@x402/core/client';
import type { PaymentPayload, PaymentRequired } from '@x402/core/types';
import { ExactEvmScheme } from '@x402/evm';
import {
  type Address,
  createPublicClient,
  createWalletClient,
  type Hex,
  http,
  parseAbi,
  parseSignature,
  type TransactionReceipt,
} from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { fundAccount } from '../../src/embedded/index.ts';
import type { DevelopmentInfo, Instance } from './instance.ts';
import { type Answer, send, type Sending } from './request.ts';

export const network = 'eip155:84532';
const usdc: Address = '0x036CbD53842c5426634e7929541eC2318f3dCF7e';

/** What has a local chain: an instance, or another's program. */
export interface OnChain {
  info: Pick<DevelopmentInfo, 'rpc_url'>;
}

/** An x402 v2 client: the stock one, with its steps apart so that a test can come between them. */
export interface Payer {
  address: Address;
  /** What the stock client sends for these terms. */
  pay(terms: PaymentRequired): Promise<PaymentPayload>;
  /** The same with the authorisation changed before it is signed: an honest signature under wrong terms. */
  payWith(terms: PaymentRequired, change: Partial<Authorization>): Promise<PaymentPayload>;
}

/** The stock payload's `authorization`: amounts and times are decimal strings. */
export interface Authorization {
  from: Address;
  to: Address;
  value: string;
  validAfter: string;
  validBefore: string;
  nonce: Hex;
}

function createPayer(key: Hex): Payer {
  const account = privateKeyToAccount(key);
  const client = new x402HTTPClient(new x402Client().register(network, new ExactEvmScheme(account)));
  return {
    address: account.address,
    pay: (terms) => client.createPaymentPayload(terms),
    async payWith(terms, change) {
      const payment = await client.createPaymentPayload(terms);
      const authorization = { ...authorizationOf(payment), ...change };
      const signature = await account.signTypedData(transferOf(authorization));
      return { ...payment, payload: { signature, authorization } };
    },
  };
}

/** A payer whom nobody has seen, with test money of its own: tests that run side by side don't share a balance. */
export async function newPayer(instance: OnChain, tokenAtomic = 1_000_000n): Promise<Payer> {
  const payer = createPayer(generatePrivateKey());
  if (tokenAtomic > 0n) await fundAccount(instance.info.rpc_url, { address: payer.address, tokenAtomic });
  return payer;
}

export function encode(payment: unknown): string {
  return Buffer.from(JSON.stringify(payment)).toString('base64');
}

// oxlint-disable-next-line typescript/no-explicit-any -- tests look into headers of every shape
export function decode(header: string | string[] | null | undefined): any {
  return JSON.parse(Buffer.from(String(header), 'base64').toString());
}

export function authorizationOf(payment: Pick<PaymentPayload, 'payload'>): Authorization {
  return payment.payload['authorization'] as Authorization;
}

/** The terms of a 402, from its header. */
export async function askTerms(url: string, sending: Sending = {}): Promise<PaymentRequired> {
  const answer = await send(url, { ...sending, headers: { 'x-agent-id': 'a-buyer', ...sending.headers } });
  if (answer.status !== 402) throw new Error(`no 402 but ${answer.status}: ${answer.text}`);
  return decode(answer.headers['payment-required']);
}

/** Sends a payment with its request. */
export function sendPaid(url: string, payment: unknown, sending: Sending = {}): Promise<Answer> {
  const header = typeof payment === 'string' ? payment : encode(payment);
  return send(url, {
    ...sending,
    headers: { 'x-agent-id': 'a-buyer', 'payment-signature': header, ...sending.headers },
  });
}

const tokenAbi = parseAbi(['function balanceOf(address account) view returns (uint256)']);

/** Reads the chain, past the program under test. */
export function openChain(instance: OnChain) {
  const client = createPublicClient({ transport: http(instance.info.rpc_url), cacheTime: 0 });
  return {
    client,
    balanceOf: (account: Address) =>
      client.readContract({ address: usdc, abi: tokenAbi, functionName: 'balanceOf', args: [account] }),
    /** The receipts of all that this account has sent. */
    async receiptsOf(sender: Address): Promise<TransactionReceipt[]> {
      const receipts: TransactionReceipt[] = [];
      const head = await client.getBlockNumber();
      for (let blockNumber = 0n; blockNumber <= head; blockNumber++) {
        const { transactions } = await client.getBlock({ blockNumber, includeTransactions: true });
        const own = transactions.filter(({ from }) => from.toLowerCase() === sender.toLowerCase());
        for (const { hash } of own) receipts.push(await client.getTransactionReceipt({ hash }));
      }
      return receipts;
    },
  };
}

/** What any facilitator, or anyone who has seen the payment, can do with it. */
export async function settleOnChain(
  instance: Instance,
  payment: Pick<PaymentPayload, 'payload'>,
): Promise<void> {
  const { from, to, value, validAfter, validBefore, nonce } = authorizationOf(payment);
  const { r, s, yParity } = parseSignature(payment.payload['signature'] as Hex);
  const account = privateKeyToAccount(instance.info.faucet_key);
  const client = createWalletClient({ account, transport: http(instance.info.rpc_url) });
  const abi = parseAbi([
    'function transferWithAuthorization(address, address, uint256, uint256, uint256, bytes32, uint8, bytes32, bytes32)',
  ]);
  const numbers = [BigInt(value), BigInt(validAfter), BigInt(validBefore)] as const;
  const hash = await client.writeContract({
    chain: null,
    address: usdc,
    abi,
    functionName: 'transferWithAuthorization',
    args: [from, to, ...numbers, nonce, 27 + yParity, r, s],
  });
  const receipt = await openChain(instance).client.waitForTransactionReceipt({ hash });
  if (receipt.status !== 'success') throw new Error('the chain took no payment');
}

/** The EIP-712 message of EIP-3009, as the token checks it. */
export function transferOf(authorization: Authorization) {
  return {
    domain: { name: 'USDC', version: '2', chainId: 84_532, verifyingContract: usdc },
    types: {
      TransferWithAuthorization: [
        { name: 'from', type: 'address' },
        { name: 'to', type: 'address' },
        { name: 'value', type: 'uint256' },
        { name: 'validAfter', type: 'uint256' },
        { name: 'validBefore', type: 'uint256' },
        { name: 'nonce', type: 'bytes32' },
      ],
    },
    primaryType: 'TransferWithAuthorization',
    message: {
      ...authorization,
      value: BigInt(authorization.value),
      validAfter: BigInt(authorization.validAfter),
      validBefore: BigInt(authorization.validBefore),
    },
  } as const;
}
