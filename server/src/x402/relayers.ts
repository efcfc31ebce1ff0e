import { type Address, type Hex, keccak256 } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { type Sql, write, type WriteContext } from '../db/index.ts';
import type { SecretBox } from '../kernel/crypto.ts';
import type { Chain } from './chain.ts';
import { transferCall } from './chain.ts';
import { exactPaymentOf, type Payment } from './payment.ts';

interface RelayerRow {
  address: Address;
  privateKey: Buffer;
  nextNonce: bigint;
}

/** Above what EIP-3009's transfer takes with r, s and v (about 86 k on Circle's token), so that gas can't run out. */
const transferGas = 150_000n;

/** Registers the account that pays the gas on a chain; repeating it changes nothing. */
export async function ensureRelayer(context: WriteContext, chain: Chain, privateKey: Hex): Promise<Address> {
  const { address } = privateKeyToAccount(privateKey);
  const sealed = context.box.seal(Buffer.from(privateKey), rowName(chain.network.id, address));
  const nextNonce = await chain.transactionCount(address);
  await write(context, async (sql, now) => {
    const rows = await sql.query(
      `INSERT INTO relayers (network, address, private_key, next_nonce, created_at) VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT DO NOTHING RETURNING address`,
      [chain.network.id, address, sealed, nextNonce, now],
    );
    const audit = { action: 'relayer.added', resource: address, data: { network: chain.network.id } };
    return { result: undefined, audit: rows.length > 0 ? audit : null };
  });
  return address;
}

export async function findRelayerAddress(sql: Sql, network: string): Promise<Address | undefined> {
  const [row] = await sql.query<{ address: Address }>(
    'SELECT address FROM relayers WHERE network = $1 ORDER BY created_at LIMIT 1',
    [network],
  );
  return row?.address;
}

/**
 * Signs the payment's transaction with the relayer's next nonce and writes it down, under the relayer's row lock.
 * What is written may then be sent any number of times: it is one transaction.
 */
export async function recordTransaction(
  sql: Sql,
  args: {
    box: SecretBox;
    chain: Chain;
    payment: Payment;
    fees: { maxFeePerGas: bigint; maxPriorityFeePerGas: bigint };
    now: Date;
  },
): Promise<SettlementTransaction> {
  const { chain, payment, now } = args;
  const [relayer] = await sql.query<RelayerRow>(
    `SELECT address, private_key, next_nonce FROM relayers
     WHERE network = $1 ORDER BY created_at LIMIT 1 FOR UPDATE`,
    [chain.network.id],
  );
  if (!relayer) throw new Error(`no relayer for ${chain.network.id}`);
  const key = args.box.open(relayer.privateKey, rowName(chain.network.id, relayer.address));
  const raw = await privateKeyToAccount(key.toString() as Hex).signTransaction({
    type: 'eip1559',
    chainId: chain.network.chainId,
    nonce: Number(relayer.nextNonce),
    to: chain.network.asset.address,
    data: transferCall(exactPaymentOf(payment)),
    gas: transferGas,
    ...args.fees,
  });
  const transaction = { hash: keccak256(raw), raw, state: 'sent' as const };
  await sql.query(
    `INSERT INTO settlement_transactions
       (network, relayer, relayer_nonce, environment_id, payment_id, hash, raw, state, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [
      chain.network.id,
      relayer.address,
      relayer.nextNonce,
      payment.environmentId,
      payment.id,
      transaction.hash,
      raw,
      transaction.state,
      now,
    ],
  );
  await sql.query('UPDATE relayers SET next_nonce = next_nonce + 1 WHERE network = $1 AND address = $2', [
    chain.network.id,
    relayer.address,
  ]);
  return transaction;
}

export interface SettlementTransaction {
  hash: Hex;
  raw: Hex;
  state: 'reverted' | 'sent' | 'succeeded';
}

/** The payment's transaction that may still be mined, if one was ever written down. */
export async function findSentTransaction(
  sql: Sql,
  payment: Payment,
): Promise<SettlementTransaction | undefined> {
  const [row] = await sql.query<SettlementTransaction>(
    `SELECT hash, raw, state FROM settlement_transactions
     WHERE environment_id = $1 AND payment_id = $2 AND state = 'sent' ORDER BY created_at DESC LIMIT 1`,
    [payment.environmentId, payment.id],
  );
  return row;
}

export async function closeTransactions(
  sql: Sql,
  payment: Payment,
  closed: { hash: Hex; state: 'reverted' | 'succeeded' },
): Promise<void> {
  await sql.query(
    `UPDATE settlement_transactions SET state = $4
     WHERE environment_id = $1 AND payment_id = $2 AND hash = $3`,
    [payment.environmentId, payment.id, closed.hash, closed.state],
  );
}

/**
 * Sends again, in order, every recorded transaction that the chain doesn't count yet: those that a crash kept from being
 * sent, and those that a restarted or reorganised chain has forgotten. One that is missing would block all after it.
 */
export async function resendMissing(sql: Sql, chain: Chain, relayer: Address): Promise<number> {
  const counted = await chain.transactionCount(relayer);
  const rows = await sql.query<{ raw: Hex }>(
    `SELECT raw FROM settlement_transactions
     WHERE network = $1 AND relayer = $2 AND relayer_nonce >= $3 ORDER BY relayer_nonce`,
    [chain.network.id, relayer, counted],
  );
  for (const { raw } of rows) await chain.broadcast(raw);
  return rows.length;
}

function rowName(network: string, address: Address): string {
  return `relayers/${network}/${address}/private_key`;
}
