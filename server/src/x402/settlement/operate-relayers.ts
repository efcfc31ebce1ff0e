import { type Address, getAddress, type Hex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';
import { batchGas } from '../chain/batch-call.ts';
import type { Chain } from '../chain/chain.ts';
import type { Fees } from '../chain/fees.ts';
import { insertRelayer } from './relayers.ts';

/** An account that pays the gas, as its operator sees it: never with its key. */
export interface Relayer {
  network: string;
  address: Address;
  active: boolean;
  /** Whether the settings name it. */
  configured: boolean;
  nextNonce: bigint;
  /** Sent and not mined yet, as far as this instance knows. */
  unmined: number;
  createdAt: Date;
  usedAt: Date | null;
}

/** A relayer with what its chain says of it. */
export interface FundedRelayer extends Relayer {
  /** Wei; nothing where the chain doesn't answer. */
  balance: bigint | undefined;
  /** Whether the balance doesn't last for long. */
  low: boolean;
}

type Chains = ReadonlyMap<string, { chain: Chain }>;

/** All relayers of the instance, with their balances. */
export async function listFunded(sql: Sql, chains: Chains): Promise<FundedRelayer[]> {
  return fund(await findRelayers(sql, {}), chains);
}

/** Those active relayers of a chain whose gas runs out. */
export async function findLowRelayers(
  sql: Sql,
  chain: Chain,
): Promise<{ network: string; address: Address; balance: string }[]> {
  const network = chain.network.id;
  const active = (await findRelayers(sql, { network })).filter((relayer) => relayer.active);
  const funded = await fund(active, new Map([[network, { chain }]]));
  return funded
    .filter(({ low }) => low)
    .map(({ address, balance = 0n }) => ({ network, address, balance: balance.toString() }));
}

/**
 * Adds an account that pays the gas on a chain, by a key that is given, or one that is made here. It has no gas yet if it is new.
 * Throws `invalid_request` where the key is none or this instance isn't on that chain, and `conflict` where it is a relayer there.
 */
export async function addRelayer(
  context: WriteContext,
  chains: Chains,
  args: { network: string; privateKey: Hex | undefined },
): Promise<FundedRelayer> {
  const { network } = args;
  const chain = chains.get(network)?.chain;
  if (!chain) {
    throw new AppError('invalid_request', `This instance is not on ${network}`, {
      errors: [{ field: 'network', message: `one of ${[...chains.keys()].join(', ')}` }],
    });
  }
  const privateKey = args.privateKey ?? generatePrivateKey();
  const address = addressOf(privateKey);
  const nextNonce = await chain.transactionCount(address);
  await write(context, async (sql, now) => {
    if (!(await insertRelayer(sql, context.box, { network, address, privateKey, nextNonce, now })))
      throw new AppError('conflict', `${address} is a relayer on ${network} already`);
    return { result: undefined, audit: { action: 'relayer.added', resource: address, data: { network } } };
  });
  const [added] = await fund(await findRelayers(context.db, { network, address }), chains);
  if (!added) throw new Error('a relayer is gone');
  return added;
}

/**
 * Lets a relayer sign, or no more, on every chain that it is on or on the one that is named. What it has signed is watched as before.
 * Throws `not_found` where there is none.
 */
export async function setRelayerActive(
  context: WriteContext,
  chains: Chains,
  args: { address: string; network: string | undefined; active: boolean },
): Promise<FundedRelayer[]> {
  const address = readAddress(args.address);
  const action = args.active ? 'relayer.reactivated' : 'relayer.deactivated';
  await write(context, async (sql) => {
    const rows = await sql.query<{ network: string; changed: boolean }>(
      `UPDATE relayers r SET active = $3 FROM relayers before
       WHERE r.address = $1 AND ($2::text IS NULL OR r.network = $2)
         AND before.network = r.network AND before.address = r.address
       RETURNING r.network, before.active <> $3 AS changed`,
      [address, args.network ?? null, args.active],
    );
    if (rows.length === 0) throw new AppError('not_found', `${address} is no relayer of this instance`);
    const changed = rows.filter((row) => row.changed).map(({ network }) => network);
    const audit = { action, resource: address, data: { networks: changed } };
    return { result: undefined, audit: changed.length > 0 ? audit : null };
  });
  const filter = args.network === undefined ? { address } : { address, network: args.network };
  return fund(await findRelayers(context.db, filter), chains);
}

function addressOf(privateKey: Hex): Address {
  try {
    return privateKeyToAccount(privateKey).address;
  } catch {
    // Zero, or above the curve's order; the key is not repeated.
    throw new AppError('invalid_request', 'The private key is not valid', {
      errors: [{ field: 'private_key', message: 'not a key of secp256k1' }],
    });
  }
}

/** Any spelling of an address; what isn't one names nothing. */
function readAddress(text: string): Address {
  try {
    return getAddress(text.toLowerCase());
  } catch {
    throw new AppError('not_found', 'There is no such relayer');
  }
}

async function findRelayers(
  sql: Sql,
  { network, address }: { network?: string; address?: Address },
): Promise<Relayer[]> {
  const rows = await sql.query<Relayer>(
    `SELECT r.network, r.address, r.active, r.configured, r.next_nonce, r.created_at, r.used_at,
       (SELECT count(*) FROM settlement_transactions t
        WHERE t.network = r.network AND t.relayer = r.address AND t.state = 'sent')::int AS unmined
     FROM relayers r WHERE ($1::text IS NULL OR r.network = $1) AND ($2::text IS NULL OR r.address = $2)
     ORDER BY r.network, r.created_at, r.address`,
    [network ?? null, address ?? null],
  );
  return rows;
}

async function fund(relayers: readonly Relayer[], chains: Chains): Promise<FundedRelayer[]> {
  const fees = new Map<string, Promise<Fees>>();
  return Promise.all(
    relayers.map(async (relayer): Promise<FundedRelayer> => {
      const chain = chains.get(relayer.network)?.chain;
      try {
        if (!chain) return { ...relayer, balance: undefined, low: false };
        const asked = fees.get(relayer.network) ?? chain.fees();
        fees.set(relayer.network, asked);
        const [{ maxFeePerGas }, balance] = await Promise.all([
          asked,
          chain.nativeBalanceOf(relayer.address),
        ]);
        return { ...relayer, balance, low: balance < maxFeePerGas * reserveGas };
      } catch {
        return { ...relayer, balance: undefined, low: false };
      }
    }),
  );
}

const reserveGas = batchGas(limits.batchItems) * limits.relayerReserveBatches;
