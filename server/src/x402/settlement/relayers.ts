import { type Address, type Hex, parseTransaction } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { type Sql, write, type WriteContext } from '../../db/index.ts';
import type { SecretBox } from '../../kernel/crypto.ts';
import type { Chain } from '../chain/chain.ts';
import type { Fees } from '../chain/fees.ts';
import { findFrom, replaceRaw, type SettlementTransaction } from './transactions.sql.ts';
import { signCall } from '../chain/transaction.ts';

/**
 * Makes the account that the settings name one that pays the gas on a chain, in the place of the one that they named before. What an operator
 * has said of it since, or of others, stays; repeating it changes nothing.
 */
export async function ensureRelayer(context: WriteContext, chain: Chain, privateKey: Hex): Promise<Address> {
  const network = chain.network.id;
  const { address } = privateKeyToAccount(privateKey);
  const nextNonce = await chain.transactionCount(address);
  await write(context, async (sql, now) => {
    const isNew = await insertRelayer(sql, context.box, { network, address, privateKey, nextNonce, now });
    await sql.query(
      `UPDATE relayers SET configured = (address = $2), active = (address = $2)
       WHERE network = $1 AND configured <> (address = $2)`,
      [network, address],
    );
    const audit = { action: 'relayer.added', resource: address, data: { network } };
    return { result: undefined, audit: isNew ? audit : null };
  });
  return address;
}

/** Writes down an account that pays the gas, its key sealed. False where it does so already. */
export async function insertRelayer(
  sql: Sql,
  box: SecretBox,
  row: { network: string; address: Address; privateKey: Hex; nextNonce: number; now: Date },
): Promise<boolean> {
  const { network, address, nextNonce, now } = row;
  const sealed = box.seal(Buffer.from(row.privateKey), rowName(network, address));
  const rows = await sql.query(
    `INSERT INTO relayers (network, address, private_key, next_nonce, active, created_at)
     VALUES ($1, $2, $3, $4, true, $5) ON CONFLICT DO NOTHING RETURNING address`,
    [network, address, sealed, nextNonce, now],
  );
  return rows.length > 0;
}

export async function listRelayers(sql: Sql, network: string): Promise<Address[]> {
  const rows = await sql.query<{ address: Address }>(
    'SELECT address FROM relayers WHERE network = $1 ORDER BY created_at, address',
    [network],
  );
  return rows.map((row) => row.address);
}

/** The accounts that sign what is settled from now on. */
export async function listActiveRelayers(sql: Sql, network: string): Promise<Address[]> {
  const rows = await sql.query<{ address: Address }>(
    'SELECT address FROM relayers WHERE network = $1 AND active ORDER BY created_at, address',
    [network],
  );
  return rows.map((row) => row.address);
}

/**
 * Signs a transaction with a relayer's next nonce, under the relayer's row lock: of those that nobody else is signing with, the
 * one that has waited longest. What is written down in the same transaction may then be sent any number of times.
 * @param args.avoid relayers that sign only where there is no other.
 */
export async function signWithNextNonce(
  sql: Sql,
  args: {
    box: SecretBox;
    chain: Chain;
    to: Address;
    data: Hex;
    gas: bigint;
    fees: Fees;
    now: Date;
    avoid: readonly Address[];
  },
): Promise<SettlementTransaction> {
  const { box, chain, to, data, gas, fees, now, avoid } = args;
  const network = chain.network.id;
  const relayer = await takeNonce(sql, network, now, avoid);
  const call = { chainId: chain.network.chainId, nonce: relayer.nonce, to, data, gas, ...fees };
  const { raw, hash } = signCall(call, openKey(box, { network, ...relayer }));
  return {
    network,
    relayer: relayer.address,
    relayerNonce: relayer.nonce,
    hashes: [hash],
    raw,
    signedAt: now,
  };
}

interface TakenNonce {
  address: Address;
  privateKey: Buffer;
  nonce: bigint;
}

async function takeNonce(
  sql: Sql,
  network: string,
  now: Date,
  avoid: readonly Address[],
): Promise<TakenNonce> {
  // Where all are being signed with, the first of them to be free again is as good as any.
  const tries: [string, readonly Address[]][] = [
    ['SKIP LOCKED', avoid],
    ['', avoid],
    ['', []],
  ];
  for (const [wait, avoided] of tries) {
    const [taken] = await sql.query<TakenNonce>(
      `UPDATE relayers SET next_nonce = next_nonce + 1, used_at = $2
       WHERE network = $1 AND address = (
         SELECT address FROM relayers WHERE network = $1 AND active AND address <> ALL ($3::text[])
         ORDER BY used_at NULLS FIRST, created_at, address LIMIT 1 FOR UPDATE ${wait})
       RETURNING address, private_key, next_nonce - 1 AS nonce`,
      [network, now, avoided],
    );
    if (taken) return taken;
  }
  throw new Error(`no relayer for ${network} is active`);
}

/** What each relayer's key was when it was last opened: opening it again for each batch would cost as much as signing. */
const openedKeys = new WeakMap<SecretBox, Map<string, Buffer>>();

function openKey(box: SecretBox, row: { network: string; address: Address; privateKey: Buffer }): Buffer {
  const keys = openedKeys.get(box) ?? new Map<string, Buffer>();
  openedKeys.set(box, keys);
  const name = rowName(row.network, row.address);
  // An address has one key, so what was opened stays right.
  const known = keys.get(name);
  if (known) return known;
  const opened = Buffer.from(box.open(row.privateKey, name).toString().slice(2), 'hex');
  keys.set(name, opened);
  return opened;
}

/** Nodes take another version of a transaction only if both of its fees are a tenth higher (geth, reth); a quarter is safe. */
const raised = (fee: bigint): bigint => (fee * 5n) / 4n + 1n;

/** Signs a transaction that the chain leaves lying again, with the same nonce and higher fees, and writes it down. */
export async function replaceTransaction(
  context: WriteContext,
  chain: Chain,
  transaction: SettlementTransaction,
): Promise<SettlementTransaction> {
  const { to, data, gas, maxFeePerGas = 0n, maxPriorityFeePerGas = 0n } = parseTransaction(transaction.raw);
  if (!to || !data || gas === undefined) throw new Error('a recorded transaction has no call');
  const present = await chain.fees();
  const fees = {
    maxFeePerGas: max(raised(maxFeePerGas), present.maxFeePerGas),
    maxPriorityFeePerGas: max(raised(maxPriorityFeePerGas), present.maxPriorityFeePerGas),
  };
  const { network, relayer: address, relayerNonce: nonce } = transaction;
  const [row] = await context.db.query<{ privateKey: Buffer }>(
    'SELECT private_key FROM relayers WHERE network = $1 AND address = $2',
    [network, address],
  );
  if (!row) throw new Error(`no relayer ${address}`);
  const key = openKey(context.box, { network, address, ...row });
  const { raw, hash } = signCall({ chainId: chain.network.chainId, nonce, to, data, gas, ...fees }, key);
  return write(context, async (sql, now) => {
    await replaceRaw(sql, transaction, { raw, hash });
    return {
      result: { ...transaction, raw, hashes: [...transaction.hashes, hash], signedAt: now },
      audit: null,
    };
  });
}

/**
 * Sends again, in order, every recorded transaction that the chain doesn't count yet: those that a crash kept from being
 * sent, and those that a restarted or reorganised chain has forgotten. One that is missing would block all after it, and
 * one that the node refuses now keeps none of the others from being sent.
 */
export async function resendMissing(
  sql: Sql,
  chain: Chain,
  relayer: Address,
  report: (error: unknown) => void,
): Promise<number> {
  const network = chain.network.id;
  const relayerNonce = await chain.transactionCount(relayer);
  const rows = await findFrom(sql, { network, relayer, relayerNonce });
  for (const { raw } of rows) await chain.broadcast(raw).catch(report);
  return rows.length;
}

function max(left: bigint, right: bigint): bigint {
  return left > right ? left : right;
}

function rowName(network: string, address: Address): string {
  return `relayers/${network}/${address}/private_key`;
}
