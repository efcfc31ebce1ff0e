import { type Address, type Hex, keccak256, parseTransaction } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { type Sql, write, type WriteContext } from '../db/index.ts';
import type { SecretBox } from '../kernel/crypto.ts';
import type { Chain, Fees } from './chain.ts';
import { findFrom, replaceRaw, type SettlementTransaction } from './settlements.sql.ts';

interface Relayer {
  address: Address;
  privateKey: Buffer;
  nextNonce: bigint;
}

/** Makes an account the one that pays the gas on a chain, in the place of any other; repeating it changes nothing. */
export async function ensureRelayer(context: WriteContext, chain: Chain, privateKey: Hex): Promise<Address> {
  const { address } = privateKeyToAccount(privateKey);
  const sealed = context.box.seal(Buffer.from(privateKey), rowName(chain.network.id, address));
  const nextNonce = await chain.transactionCount(address);
  await write(context, async (sql, now) => {
    const rows = await sql.query(
      `INSERT INTO relayers (network, address, private_key, next_nonce, active, created_at)
       VALUES ($1, $2, $3, $4, true, $5) ON CONFLICT DO NOTHING RETURNING address`,
      [chain.network.id, address, sealed, nextNonce, now],
    );
    await sql.query('UPDATE relayers SET active = (address = $2) WHERE network = $1', [
      chain.network.id,
      address,
    ]);
    const audit = { action: 'relayer.added', resource: address, data: { network: chain.network.id } };
    return { result: undefined, audit: rows.length > 0 ? audit : null };
  });
  return address;
}

export async function listRelayers(sql: Sql, network: string): Promise<Address[]> {
  const rows = await sql.query<{ address: Address }>(
    'SELECT address FROM relayers WHERE network = $1 ORDER BY created_at, address',
    [network],
  );
  return rows.map((row) => row.address);
}

/**
 * Signs a transaction with a relayer's next nonce, under the relayer's row lock: of several relayers the first that nobody
 * else is signing with. What is written down in the same transaction may then be sent any number of times.
 */
export async function signWithNextNonce(
  sql: Sql,
  args: { box: SecretBox; chain: Chain; to: Address; data: Hex; gas: bigint; fees: Fees; now: Date },
): Promise<SettlementTransaction> {
  const { chain, now } = args;
  const relayer = await lockRelayer(sql, chain.network.id);
  const key = args.box.open(relayer.privateKey, rowName(chain.network.id, relayer.address));
  const raw = await privateKeyToAccount(key.toString() as Hex).signTransaction({
    type: 'eip1559',
    chainId: chain.network.chainId,
    nonce: Number(relayer.nextNonce),
    to: args.to,
    data: args.data,
    gas: args.gas,
    ...args.fees,
  });
  await sql.query('UPDATE relayers SET next_nonce = next_nonce + 1 WHERE network = $1 AND address = $2', [
    chain.network.id,
    relayer.address,
  ]);
  return {
    network: chain.network.id,
    relayer: relayer.address,
    relayerNonce: relayer.nextNonce,
    hashes: [keccak256(raw)],
    raw,
    signedAt: now,
  };
}

const relayerQuery = `SELECT address, private_key, next_nonce FROM relayers
  WHERE network = $1 AND active ORDER BY created_at, address LIMIT 1`;

async function lockRelayer(sql: Sql, network: string): Promise<Relayer> {
  const [free] = await sql.query<Relayer>(`${relayerQuery} FOR UPDATE SKIP LOCKED`, [network]);
  if (free) return free;
  const [awaited] = await sql.query<Relayer>(`${relayerQuery} FOR UPDATE`, [network]);
  if (!awaited) throw new Error(`no relayer for ${network}`);
  return awaited;
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
  const [row] = await context.db.query<{ privateKey: Buffer }>(
    'SELECT private_key FROM relayers WHERE network = $1 AND address = $2',
    [transaction.network, transaction.relayer],
  );
  if (!row) throw new Error(`no relayer ${transaction.relayer}`);
  const key = context.box.open(row.privateKey, rowName(transaction.network, transaction.relayer));
  const raw = await privateKeyToAccount(key.toString() as Hex).signTransaction({
    type: 'eip1559',
    chainId: chain.network.chainId,
    nonce: Number(transaction.relayerNonce),
    to,
    data,
    gas,
    ...fees,
  });
  const hash = keccak256(raw);
  return write(context, async (sql, now) => {
    await replaceRaw(sql, transaction, { raw, hash, now });
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
