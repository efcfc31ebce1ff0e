import {
  BaseError,
  ContractFunctionRevertedError,
  getContract,
  parseEventLogs,
  type Abi,
  type Address,
  type Hex,
} from 'viem';
import type { PrivateKeyAccount } from 'viem/accounts';
import { baseSepoliaUsdc, fundAccount, plantTestToken } from '../../src/embedded/index.ts';
import { fiatTokenAbi } from './fiat-token-abi.ts';
import { connect, startLocalChain } from './local-chain.ts';
import { newAccount, newNonce, type Authorization } from './signatures.ts';

// Without its types, so that a table can name both overloads of a method.
const anyOverload: Abi = fiatTokenAbi;

/** What `newPayer` holds unless told otherwise. */
export const fundsAtomic = 1_000_000n;

/** The test token on a chain of its own, with what the tests do to it. */
export type PlantedToken = Awaited<ReturnType<typeof plantToken>>;

/** Starts a chain and plants the token at Base Sepolia's address. */
export async function plantToken() {
  const { rpcUrl, stop } = await startLocalChain();
  const client = connect(rpcUrl);
  await plantTestToken(rpcUrl, baseSepoliaUsdc);
  const { read, getEvents } = getContract({ address: baseSepoliaUsdc, abi: fiatTokenAbi, client });
  const [relayer] = await client.getAddresses();
  if (relayer === undefined) throw new Error('anvil has no account');

  /** Hands a call of either overload to the chain, whatever will come of it. */
  const post = (functionName: string, args: readonly unknown[], account = relayer): Promise<Hex> => {
    const call = { address: baseSepoliaUsdc, abi: anyOverload, functionName, args };
    return client.writeContract({ ...call, account, gas: 300_000n });
  };

  /** Sends a call that must succeed, and waits for its block. */
  const send = async (functionName: string, args: readonly unknown[], account = relayer): Promise<Hex> => {
    const hash = await post(functionName, args, account);
    const { status } = await client.waitForTransactionReceipt({ hash });
    if (status !== 'success') throw new Error(`${functionName} was mined as ${status}`);
    return hash;
  };

  /** The token's answer to a call, `accepted` or the reason, by whom and when it is sent. */
  const answer = (
    functionName: string,
    args: readonly unknown[],
    sent: { account?: Address; time?: bigint } = {},
  ): Promise<string> => {
    const call = { address: baseSepoliaUsdc, abi: anyOverload, functionName, args };
    const when = sent.time === undefined ? {} : { blockOverrides: { time: sent.time } };
    return refusal(client.simulateContract({ ...call, account: sent.account ?? relayer, ...when }));
  };

  /** The same, and a block that must say the same. */
  const settle = async (functionName: string, args: readonly unknown[]): Promise<string> => {
    const said = await answer(functionName, args);
    const { status } = await client.waitForTransactionReceipt({ hash: await post(functionName, args) });
    if ((status === 'success') !== (said === 'accepted')) throw new Error(`${said}, yet mined as ${status}`);
    return said;
  };

  const newPayer = async (tokenAtomic = fundsAtomic): Promise<PrivateKeyAccount> => {
    const payer = newAccount();
    await fundAccount(rpcUrl, { address: payer.address, tokenAtomic });
    return payer;
  };

  const chainNow = async (): Promise<bigint> => (await client.getBlock()).timestamp;

  /** An authorization that is good but for what is changed: 0.01 to a new payee, for ten minutes. */
  const authorize = async (from: Address, changed: Partial<Authorization> = {}): Promise<Authorization> => {
    const now = await chainNow();
    const window = { validAfter: now - 600n, validBefore: now + 600n };
    return { from, to: newAccount().address, value: 10_000n, ...window, nonce: newNonce(), ...changed };
  };

  /** The token's events of a transaction, in order. */
  const eventsOf = async (hash: Hex) => {
    const { logs } = await client.waitForTransactionReceipt({ hash });
    return parseEventLogs({ abi: fiatTokenAbi, logs }).map(({ eventName, args }) => ({ eventName, args }));
  };

  const methods = { post, send, answer, settle, newPayer, chainNow, authorize, eventsOf };
  return { rpcUrl, stop, client, relayer, read, getEvents, ...methods };
}

async function refusal(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'accepted';
  } catch (error) {
    if (!(error instanceof BaseError)) throw error;
    const reverted = error.walk((cause) => cause instanceof ContractFunctionRevertedError);
    if (!(reverted instanceof ContractFunctionRevertedError)) throw error;
    return reverted.reason ?? 'reverted without a reason';
  }
}
