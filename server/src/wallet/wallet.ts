import type { Address, Hex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { type Sql, write, type WriteContext } from '../db/index.ts';
import type { SecretBox } from '../kernel/crypto.ts';
import { type EnvironmentId, newId, type WalletId } from '../kernel/ids.ts';
import { type Authorization, type Network, transferTypedData } from '../x402/index.ts';

/** An environment's own wallet: pays under mandates, and is paid for the environment's servers. */
export interface Wallet {
  environmentId: EnvironmentId;
  id: WalletId;
  network: string;
  address: Address;
}

export async function createWallet(
  context: WriteContext,
  environmentId: EnvironmentId,
  network: Network,
): Promise<Wallet> {
  const privateKey = generatePrivateKey();
  const wallet: Wallet = {
    environmentId,
    id: newId('wallet'),
    network: network.id,
    address: privateKeyToAccount(privateKey).address,
  };
  const sealed = context.box.seal(Buffer.from(privateKey), rowName(wallet));
  return write(context, async (sql, now) => {
    await sql.query(
      `INSERT INTO wallets (environment_id, id, network, address, private_key, created_at)
       VALUES ($1, $2, $3, $4, $5, $6)`,
      [wallet.environmentId, wallet.id, wallet.network, wallet.address, sealed, now],
    );
    const data = { network: wallet.network, address: wallet.address };
    return {
      result: wallet,
      audit: { action: 'wallet.created', resource: wallet.id, scope: environmentId, data },
    };
  });
}

export async function findWallets(sql: Sql, environmentId: EnvironmentId): Promise<Wallet[]> {
  return sql.query<Wallet>(
    'SELECT environment_id, id, network, address FROM wallets WHERE environment_id = $1 ORDER BY created_at, id',
    [environmentId],
  );
}

export async function findWallet(
  sql: Sql,
  environmentId: EnvironmentId,
  network: string,
): Promise<Wallet | undefined> {
  const [row] = await sql.query<Wallet>(
    'SELECT environment_id, id, network, address FROM wallets WHERE environment_id = $1 AND network = $2',
    [environmentId, network],
  );
  return row;
}

/** Signs a transfer with the wallet's key, which is open for no longer than that. */
export async function signTransfer(
  context: { db: Sql; box: SecretBox },
  wallet: Wallet,
  network: Network,
  authorization: Authorization,
): Promise<Hex> {
  const [row] = await context.db.query<{ privateKey: Buffer }>(
    'SELECT private_key FROM wallets WHERE environment_id = $1 AND id = $2',
    [wallet.environmentId, wallet.id],
  );
  if (!row) throw new Error(`wallet ${wallet.id} has no key`);
  const privateKey = context.box.open(row.privateKey, rowName(wallet)).toString() as Hex;
  return privateKeyToAccount(privateKey).signTypedData(transferTypedData(network, authorization));
}

function rowName(wallet: Wallet): string {
  return `wallets/${wallet.environmentId}/${wallet.id}/private_key`;
}
